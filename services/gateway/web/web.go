// Package web is the dashboard: one page without framework, build step or anything fetched from elsewhere, embedded in
// the program. It shows the loop with what is moving in each phase, and the events as they happen.
//
// The page reads three addresses of the gateway that serves it: GET /api/v1/overview, GET /events and
// GET /events/stream. It writes nothing. Where the gateway asks who one is, the page asks for a token, keeps it in the
// tab's session storage and sends it in a header: there is no cookie that another page could have sent.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed index.html *.css *.js *.svg
var files embed.FS

// policy lets the page load its own files and talk to its own server, and nothing else: no inline script or style, no
// frame around it, no form. What events carry was written by others; should some of it ever slip into the markup, it
// still could not run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// types by extension: the tables of the operating system, which package mime reads, differ between machines.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

type asset struct {
	body []byte
	mime string
	etag string
}

// Handler serves the dashboard: the page at /, its files beside it, 404 for any other path, 405 for anything but GET
// and HEAD. Answers carry an ETag and must be revalidated, so that a new version of the program shows at once and an
// unchanged file costs a 304.
func Handler() http.Handler {
	assets := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the dashboard can only be read", http.StatusMethodNotAllowed)
			return
		}
		a, ok := assets[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h.Set("Content-Type", a.mime)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", a.etag)
		if matches(r.Header.Get("If-None-Match"), a.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(a.body) // the client left; nobody to tell
		}
	})
}

// load reads the embedded files once. They are part of the program, so a failure is a fault of the build.
func load() map[string]asset {
	assets := map[string]asset{}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(fmt.Sprintf("dashboard: list embedded files: %v", err))
	}
	for _, e := range entries {
		body, err := files.ReadFile(e.Name())
		if err != nil {
			panic(fmt.Sprintf("dashboard: read embedded %s: %v", e.Name(), err))
		}
		kind, ok := types[path.Ext(e.Name())]
		if !ok {
			panic("dashboard: no content type for " + e.Name())
		}
		sum := sha256.Sum256(body)
		a := asset{body: body, mime: kind, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		assets["/"+e.Name()] = a
		if e.Name() == "index.html" {
			assets["/"] = a
		}
	}
	return assets
}

// matches compares weakly, as RFC 9110 asks for If-None-Match.
func matches(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == etag || part == "*" {
			return true
		}
	}
	return false
}
