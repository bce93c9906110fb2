package gateway

import (
	"net/http"
	"strings"

	"github.com/lemnis/lemnis/services/gateway/access"
)

// rule says who may use an endpoint. Without one it is for administrators only.
type rule struct {
	open   bool                                // to everybody: it tells nothing of anybody
	near   bool                                // open to this machine
	signed func(*http.Request) access.Identity // who it is when the handler authenticates by signature
	need   func(*http.Request) []access.Scope  // what the request needs; nil: somebody known, and the handler looks further
}

// rules by the pattern of the endpoint, as it is given to the mux. docs/security.md shows them as a table.
var rules = map[string]rule{
	"GET /healthz":        {open: true},
	"GET /readyz":         {open: true},
	"GET /metrics":        {near: true, need: readAll},
	"GET /asyncapi.json":  {open: true}, // the same in every installation
	"GET /schemas/{$}":    {open: true},
	"GET /schemas/{type}": {open: true},
	"/":                   {open: true}, // the dashboard's files: what they show, they ask for
	"/api/":               {},           // answers that there is nothing

	// What is claimed is judged when it has been read, by the phase and the project that it speaks of: door.may.
	"POST /events":   {},
	"POST /feedback": {},
	"/events":        {}, // answers that the method is wrong
	"/feedback":      {},

	// A subscription says its project; its handlers ask for read@ or admin@ it.
	"POST /subscriptions":        {},
	"GET /subscriptions":         {},
	"GET /subscriptions/{id}":    {},
	"PUT /subscriptions/{id}":    {},
	"DELETE /subscriptions/{id}": {},
	"/subscriptions":             {},
	"/subscriptions/{id}":        {},

	"GET /events":          {need: readProject},
	"GET /events/stream":   {need: readProject},
	"GET /events/{id...}":  {}, // the event says its project: show
	"GET /api/v1/overview": {need: readNamed},
	"GET /api/v1/whoami":   {},

	"GET /api/v1/logs/{project}/{run...}": {need: readOfPath},
	"GET /api/v1/tests/{project}":         {need: readOfPath},

	"GET /api/v1/webhooks/unknown": {need: readNamed},

	"POST /webhooks/{kind}/{project}": {signed: func(r *http.Request) access.Identity {
		return access.Webhook(r.PathValue("kind"), r.PathValue("project"))
	}},

	"/v2/": {need: ofRegistry},
}

var administrators = rule{need: func(*http.Request) []access.Scope { return []access.Scope{access.Need(access.Admin, "", "")} }}

func readAll(*http.Request) []access.Scope { return []access.Scope{access.Need(access.Read, "", "")} }

// readProject asks for the project that the query names, or for all.
func readProject(r *http.Request) []access.Scope {
	return []access.Scope{access.Need(access.Read, "", r.URL.Query().Get("project"))}
}

// readOfPath asks for the project that the path names.
func readOfPath(r *http.Request) []access.Scope {
	return []access.Scope{access.Need(access.Read, "", r.PathValue("project"))}
}

// readNamed asks for a project only when one is named: the handler shows what may be seen.
func readNamed(r *http.Request) []access.Scope {
	if r.URL.Query().Get("project") == "" {
		return nil
	}
	return readProject(r)
}

// ofRegistry is what a request of the OCI distribution protocol needs. The first part of a repository's name is its
// project.
func ofRegistry(r *http.Request) []access.Scope {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, "/v2"), "/")
	if path == "" {
		return nil // the first question of every client: is this a registry, and am I known?
	}
	if path == "_catalog" {
		return []access.Scope{access.Need(access.Read, "", "")}
	}
	project, _, _ := strings.Cut(path, "/")
	upload := strings.Contains(path, "/blobs/uploads")
	switch {
	case upload: // reading how far one has come, and giving one up, belong to pushing
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return []access.Scope{access.Need(access.Read, "", project)}
	case r.Method == http.MethodDelete:
		return []access.Scope{access.Need(access.Admin, "", project)}
	}
	needs := []access.Scope{access.Need(access.Publish, "integrate", project)}
	if from := r.URL.Query().Get("from"); from != "" { // a blob of another repository is taken over
		other, _, _ := strings.Cut(from, "/")
		needs = append(needs, access.Need(access.Read, "", other))
	}
	return needs
}
