package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHandler(t *testing.T) {
	h := Handler()
	page := httptest.NewRecorder()
	h.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil))
	etag := page.Header().Get("ETag")

	tests := []struct {
		name, method, path, noneMatch string
		status                        int
		kind                          string
		empty                         bool
	}{
		{name: "page", path: "/", status: 200, kind: "text/html; charset=utf-8"},
		{name: "page by name", path: "/index.html", status: 200, kind: "text/html; charset=utf-8"},
		{name: "script", path: "/app.js", status: 200, kind: "text/javascript; charset=utf-8"},
		{name: "style", path: "/style.css", status: 200, kind: "text/css; charset=utf-8"},
		{name: "picture", path: "/favicon.svg", status: 200, kind: "image/svg+xml"},
		{name: "head", method: http.MethodHead, path: "/", status: 200, kind: "text/html; charset=utf-8", empty: true},
		{name: "unchanged", path: "/", noneMatch: `"other", W/` + etag, status: 304, empty: true},
		{name: "changed", path: "/app.js", noneMatch: etag, status: 200, kind: "text/javascript; charset=utf-8"},
		{name: "source is not served", path: "/web.go", status: 404},
		{name: "no way out", path: "/../web.go", status: 404},
		{name: "unknown", path: "/nothing", status: 404},
		{name: "write", method: http.MethodPost, path: "/", status: 405},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			method := tt.method
			if method == "" {
				method = http.MethodGet
			}
			r := httptest.NewRequest(method, "http://localhost/", nil)
			r.URL.Path = tt.path
			if tt.noneMatch != "" {
				r.Header.Set("If-None-Match", tt.noneMatch)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Fatalf("status %d, want %d", w.Code, tt.status)
			}
			if tt.kind != "" && w.Header().Get("Content-Type") != tt.kind {
				t.Errorf("content type %q, want %q", w.Header().Get("Content-Type"), tt.kind)
			}
			if empty := w.Body.Len() == 0; empty != tt.empty {
				t.Errorf("body of %d bytes, want empty: %v", w.Body.Len(), tt.empty)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": policy} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if tt.status == 200 && (w.Header().Get("ETag") == "" || w.Header().Get("Cache-Control") != "no-cache") {
				t.Errorf("not to be revalidated: %v", w.Header())
			}
		})
	}
}

// The policy would make a browser refuse these silently; here they fail.
func TestFilesObeyThePolicy(t *testing.T) {
	assets := load()
	html := string(assets["/"].body)
	for what, bad := range map[string]string{
		"inline script":  `<script[^>]*>[^<]`,
		"inline style":   `<style|\sstyle=`,
		"inline handler": `\son[a-z]+=`,
	} {
		if m := regexp.MustCompile(bad).FindString(html); m != "" {
			t.Errorf("%s in index.html: %q", what, m)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(html, -1) {
		if _, ok := assets["/"+m[1]]; !ok {
			t.Errorf("index.html refers to %q, which is not there", m[1])
		}
	}
	for name, a := range assets {
		body := strings.ReplaceAll(string(a.body), "http://www.w3.org/2000/svg", "")
		if m := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]{2,}`).FindString(body); m != "" {
			t.Errorf("%s refers outside: %q", name, m)
		}
		if m := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`).FindString(body); m != "" {
			t.Errorf("%s makes markup or code from text: %q", name, m)
		}
		for _, m := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllStringSubmatch(body, -1) {
			if _, ok := assets["/"+m[1]]; !ok {
				t.Errorf("%s imports %q, which is not there", name, m[1])
			}
		}
	}
}

// browse opens the page in a headless browser and answers the document as it stands when s.hold is closed. What the
// browser complained of fails the test. LEMNIS_SHOTS names a folder to leave a picture in.
func browse(t *testing.T, s *sample, path string) string {
	t.Helper()
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			browser = found
			break
		}
	}
	if browser == "" {
		t.Skip("needs chromium on the PATH: the page's script was not run")
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-extensions",
		"--user-data-dir=" + t.TempDir(), "--enable-logging=stderr", "--window-size=1280,1000", "--dump-dom",
	}
	if dir := os.Getenv("LEMNIS_SHOTS"); dir != "" {
		args = append(args, "--screenshot="+filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".png"))
	}
	cmd := exec.CommandContext(ctx, browser, append(args, srv.URL+path)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("browser: %v\n%s", err, said.String())
	}
	for line := range strings.Lines(said.String()) {
		if strings.Contains(line, "CONSOLE") && !strings.Contains(line, "503 (Service Unavailable)") {
			t.Errorf("the page complained: %s", line)
		}
	}
	return string(out)
}

func TestPageShowsTheLoopAndTheEvents(t *testing.T) {
	t.Parallel()
	s := newSample()
	s.hold = make(chan struct{})
	next := func(sequence int, text string) map[string]any {
		return map[string]any{
			"id": text, "type": "dev.cdevents.service.deployed.0.3.0", "time": time.Now().UTC().Format(time.RFC3339Nano), "kind": "fact", "sequence": sequence,
			"project": "shop", "phase": "deploy", "chainid": "c1", "data": map[string]any{"subject": map[string]any{"id": text, "content": map[string]any{}}},
		}
	}
	// The page reads the overview again after a live event. It may also do so because the stream opened; after the
	// second time it has met the first event for sure.
	var once [3]sync.Once
	var mu sync.Mutex
	sent, read := false, 0
	s.asked = func(path string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case path == "/events":
			once[0].Do(func() { s.more <- next(900, "live-one"); sent = true })
		case path == "/api/v1/overview" && sent:
			read++
			if read == 1 {
				once[1].Do(func() { s.more <- next(901, "live-two") })
			} else {
				once[2].Do(func() { close(s.hold) })
			}
		}
	}
	dom := browse(t, s, "/")
	for _, want := range []string{
		"Test the index with empty titles", "ranked 1", "Show 2 more", // what is moving
		">backlog ranked<", ">rollback<", // history
		">live-one<",                               // the stream
		"&lt;img src=x onerror=alert(1)&gt;",       // what an outsider wrote stays text
		`aria-label="plan: 5 moving`, `>website</`, // the figure, the other project
		`data-state="live"`,
	} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(dom, "<img src=\"x\"") {
		t.Error("an event became markup")
	}
	if t.Failed() {
		t.Log(dom)
	}
}

func TestPageSaysWhatToDoFirst(t *testing.T) {
	t.Parallel()
	s := newSample()
	s.empty, s.hold = true, make(chan struct{})
	var once sync.Once
	read := 0
	var mu sync.Mutex
	s.asked = func(path string) {
		mu.Lock()
		defer mu.Unlock()
		if path == "/api/v1/overview" {
			if read++; read == 2 { // the first was shown before the second was asked for
				once.Do(func() { close(s.hold) })
			}
		}
	}
	dom := browse(t, s, "/")
	if !strings.Contains(dom, `id="loop" aria-label="The loop" hidden`) || strings.Contains(dom, `id="welcome" hidden`) || !strings.Contains(dom, "/feedback -H") {
		t.Errorf("no welcome:\n%s", dom)
	}
}

func TestPageComesBackAfterALostConnection(t *testing.T) {
	t.Parallel()
	s := newSample()
	s.hold = make(chan struct{})
	s.down.Store(true)
	var once sync.Once
	var mu sync.Mutex
	live := 0
	s.asked = func(path string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case path == "/events/stream" && s.streams.Load() == 1:
			s.down.Store(false) // the second try succeeds
		case path == "/api/v1/overview" && s.streams.Load() >= 2:
			if live++; live == 1 {
				s.more <- map[string]any{"id": "x", "type": "dev.cdevents.service.deployed.0.3.0", "time": time.Now().UTC().Format(time.RFC3339Nano), "kind": "fact", "sequence": 950, "phase": "deploy", "data": map[string]any{}}
			} else {
				once.Do(func() { close(s.hold) })
			}
		}
	}
	dom := browse(t, s, "/")
	if !strings.Contains(dom, `data-state="live"`) || !strings.Contains(dom, `id="banner" role="alert" hidden`) || !strings.Contains(dom, `data-sequence="950"`) {
		t.Errorf("not live again:\n%s", dom)
	}
}
