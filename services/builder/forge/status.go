package forge

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/lemnis/lemnis/pkg/events"
)

// Context is the name that statuses are under.
const Context = "lemnis/integrate"

// State is how a change fares. Not every forge knows all of them.
type State string

// The states of a change.
const (
	Pending State = "pending" // it waits
	Running State = "running" // it is tested
	Success State = "success" // it passed, or is merged
	Failure State = "failure" // something is wrong with it
	Error   State = "error"   // something is wrong with who tested it
)

// Status is what a forge is told of a commit.
type Status struct {
	Commit      string // in full
	State       State
	Description string // any text; it is cut to what the forge takes
	Target      string // URL where there is more; empty: nowhere
	Branch      string // where the commit is, or the ref of a change from a fork; empty: not known. GitLab puts the status there
}

// dialect is what is different from forge to forge.
type dialect struct {
	states  map[State]string
	longest int // characters of a description
	field   string
	prove   func(h http.Header, token string)
	project func(path string) string
}

func owned(path string) string {
	owner, name, _ := strings.Cut(path, "/")
	return "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name)
}

var gitea = dialect{
	states:  map[State]string{Pending: "pending", Running: "pending", Success: "success", Failure: "failure", Error: "error"},
	longest: 255, field: "context", project: owned,
	prove: func(h http.Header, token string) { h.Set("Authorization", "token "+token) },
}

var dialects = map[events.ForgeKind]dialect{
	events.ForgeGitHub: {
		states:  map[State]string{Pending: "pending", Running: "pending", Success: "success", Failure: "failure", Error: "error"},
		longest: 140, field: "context", project: owned,
		prove: func(h http.Header, token string) {
			h.Set("Authorization", "Bearer "+token)
			h.Set("Accept", "application/vnd.github+json")
			h.Set("X-Github-Api-Version", "2022-11-28")
		},
	},
	events.ForgeGitLab: {
		states:  map[State]string{Pending: "pending", Running: "running", Success: "success", Failure: "failed", Error: "failed"},
		longest: 255, field: "name",
		prove:   func(h http.Header, token string) { h.Set("Private-Token", token) },
		project: func(path string) string { return "/projects/" + url.PathEscape(path) },
	},
	events.ForgeGitea: gitea, events.ForgeForgejo: gitea,
}

var commitName = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// request is how a forge is told a status.
func (p Place) request(token string, s Status) (*http.Request, error) {
	d := dialects[p.kind]
	if !commitName.MatchString(s.Commit) {
		return nil, errors.New("the head is no full name of a commit")
	}
	said := map[string]string{"state": d.states[s.State], d.field: Context, "description": bounded(s.Description, d.longest)}
	if s.Target != "" && len(s.Target) <= 255 {
		said["target_url"] = s.Target
	}
	if p.kind == events.ForgeGitLab && s.Branch != "" && !strings.Contains(s.Branch, ":") { // owner:branch is another project's
		said["ref"] = s.Branch
	}
	body, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	r, err := p.ask(http.MethodPost, d.project(p.path)+"/statuses/"+s.Commit, token, bytes.NewReader(body))
	if err == nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, err
}

// ask is a request of the API.
func (p Place) ask(method, path, token string, body io.Reader) (*http.Request, error) {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &Refusal{Reason: "the token is not one word on one line", Token: true}
	}
	r, err := http.NewRequest(method, p.API()+path, body) //nolint:noctx // do gives it one
	if err != nil {
		return nil, errors.New("the address of the API is none")
	}
	r.Header.Set("User-Agent", "lemnis")
	dialects[p.kind].prove(r.Header, token)
	return r, nil
}

// bounded is one line of at most so many characters.
func bounded(text string, longest int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if all := []rune(text); len(all) > longest {
		text = string(all[:longest-1]) + "…"
	}
	return text
}
