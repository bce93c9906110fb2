//go:build linux

package runtimetest

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/process"
)

func build(t *testing.T, folder, pkg string, env ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "app")
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

func digestOf(t *testing.T, file string) string {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(body))
}

func TestSuitesAgainstRealInstances(t *testing.T) {
	app := build(t, ".", "./testdata/app")
	supervisor, err := process.New(process.Config{StateDir: t.TempDir(), Grace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer supervisor.Close(context.Background())
	run := func(digest string, suite Suite, args ...string) map[string]Result {
		p, err := supervisor.Start(context.Background(), process.Spec{Executable: app, Args: args, HealthPath: "/health"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Stop(context.Background())
		named := map[string]Result{}
		for _, r := range Run(context.Background(), Instance{p.URL(), p.Port(), p.PID(), app, digest}, suite) {
			named[r.Name] = r
			if r.Reason == "" || r.Took <= 0 {
				t.Errorf("%+v", r)
			}
		}
		if len(named) != 7 {
			t.Errorf("ran %v", named)
		}
		return named
	}

	suite := Prod("/health")
	suite.Latency.P50, suite.Latency.P99 = 5*time.Second, 5*time.Second // the test's machine is shared
	for name, r := range run(digestOf(t, app), suite) {
		if !r.Passed {
			t.Errorf("%s of a good instance: %s", name, r.Reason)
		}
		if name == "licences" && !strings.Contains(r.Reason, "only the standard library") {
			t.Errorf("reason %q", r.Reason)
		}
	}
	suite.Latency.P50 = time.Nanosecond
	bad := run("sha256:00", suite, "-bad")
	for name, reason := range map[string]string{"latency": "p50 is", "digest": "the pipeline stated sha256:00",
		"headers": "Server tells a version", "ports": "listens on port"} {
		if r := bad[name]; r.Passed || !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: %+v, expected %q", name, r, reason)
		}
	}
	if r := bad["headers"]; !strings.Contains(r.Reason, "no X-Content-Type-Options") || r.Values["problems"] != 2 {
		t.Errorf("%+v", r)
	}
}

// text is a licence's, from the library's own tests: lines of what it has to be, an empty one, the text.
func text(t *testing.T, name string) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/licensecheck").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testdata", name+".t1"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(file), "\n\n")
	return rest
}

// A real executable with real modules, served by a module proxy of files.
func TestLicencesOfModules(t *testing.T) {
	proxy, cache, source := t.TempDir(), t.TempDir(), t.TempDir()
	main, mod := "package main\n", "module example.org/app\n\ngo 1.26\n"
	for name, licence := range map[string]string{"Free": text(t, "MIT"), "gnu": text(t, "GPL-3.0"), "none": "", "odd": "All rights reserved."} {
		path := "example.org/" + name
		folder := filepath.Join(proxy, strings.ReplaceAll(path, "F", "!f"), "@v")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		write := func(file, text string) {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		module := "module " + path + "\n\ngo 1.26\n"
		write("v1.0.0.info", `{"Version":"v1.0.0"}`)
		write("v1.0.0.mod", module)
		f, err := os.Create(filepath.Join(folder, "v1.0.0.zip"))
		if err != nil {
			t.Fatal(err)
		}
		z := zip.NewWriter(f)
		files := map[string]string{"go.mod": module, "lib.go": "package lib\n"}
		if licence != "" {
			files["LICENSE"] = licence
		}
		for file, text := range files {
			w, err := z.Create(path + "@v1.0.0/" + file)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, text)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		mod += "require " + path + " v1.0.0\n"
		main += "import _ \"" + path + "\"\n"
	}
	for file, text := range map[string]string{"go.mod": mod, "main.go": main + "func main() {}\n"} {
		if err := os.WriteFile(filepath.Join(source, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app := build(t, source, ".", "GOWORK=off", "GOPROXY=file://"+proxy, "GONOSUMDB=*", "GOSUMDB=off", "GOMODCACHE="+cache, "GOFLAGS=-mod=mod -modcacherw")

	for _, test := range []struct {
		name   string
		policy Licences
		passed bool
		words  []string
	}{
		{"strict", Licences{Allow: Permissive, ModuleCache: cache}, false,
			[]string{"not allowed: example.org/gnu@v1.0.0 (GPL-3.0)", "licence unknown: example.org/none@v1.0.0, example.org/odd@v1.0.0"}},
		{"without files", Licences{Allow: Permissive}, false, []string{"example.org/Free@v1.0.0"}},
		{"known and own", Licences{Allow: Permissive, ModuleCache: cache, Own: []string{"example.org/gnu"},
			Known: map[string]string{"example.org/none": "MIT", "example.org/odd@v1.0.0": "ISC"}}, true, []string{"under ISC, MIT"}},
		{"unknown allowed", Licences{Allow: append([]string{"GPL-3.0"}, Permissive...), ModuleCache: cache, AllowUnknown: true}, true,
			[]string{"example.org/none@v1.0.0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Run(context.Background(), Instance{Executable: app}, Suite{Licences: &test.policy})[0]
			if r.Passed != test.passed {
				t.Errorf("%+v", r)
			}
			for _, words := range test.words {
				if !strings.Contains(r.Reason, words) {
					t.Errorf("%q lacks %q", r.Reason, words)
				}
			}
		})
	}
	if r := Run(context.Background(), Instance{Executable: "/bin/sh"}, Suite{Licences: &Licences{}})[0]; r.Passed {
		t.Errorf("%+v", r)
	}
}

// This test's own program, and a database in which its version of Go is vulnerable.
func TestVulnerabilitiesOfTheExecutable(t *testing.T) {
	app, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	database := t.TempDir()
	entry := `{"id":"GO-1","database_specific":{"severity":"HIGH"},"affected":[{"package":{"ecosystem":"Go","name":"stdlib"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}`
	if err := os.WriteFile(filepath.Join(database, "GO-1.json"), []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		database, file string
		most           map[events.Severity]int
		reason         string // empty: passes
	}{
		"one too many":  {database, app, map[events.Severity]int{"critical": 0, "high": 0}, "1 are high, at most 0 may be: GO-1 in stdlib@"},
		"as many as":    {database, app, map[events.Severity]int{"high": 1}, ""},
		"others":        {database, app, map[events.Severity]int{"critical": 0}, ""},
		"no database":   {t.TempDir(), app, map[events.Severity]int{"critical": 0}, "no entry"},
		"no Go program": {database, "/bin/sh", map[events.Severity]int{"critical": 0}, "no list of modules"},
	} {
		r := Run(context.Background(), Instance{Executable: test.file}, Suite{Vulnerabilities: &Vulnerabilities{test.database, test.most}})[0]
		if r.Passed != (test.reason == "") || !strings.Contains(r.Reason, test.reason) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	bounded := Suite{Vulnerabilities: &Vulnerabilities{database, map[events.Severity]int{"high": 1}}}
	for _, loose := range []Suite{{}, {Vulnerabilities: &Vulnerabilities{database, map[events.Severity]int{"high": 2}}}, {Vulnerabilities: &Vulnerabilities{database, map[events.Severity]int{"low": 0}}}} {
		if loose.AtLeast(bounded) == nil {
			t.Errorf("%+v passes for as strict", loose.Vulnerabilities)
		}
	}
	if err := bounded.AtLeast(bounded); err != nil {
		t.Error(err)
	}
}

func TestFailuresAreNamed(t *testing.T) {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; r.URL.Path == "/broken" || r.URL.Path == "/late" && calls > 20 {
			w.WriteHeader(500)
		}
	}))
	defer server.Close()
	suite := Suite{Smoke: &Smoke{Paths: []string{"/", "/broken"}}, Digest: true, Ports: &Ports{},
		Latency: &Latency{Path: "/late", Requests: 50, Concurrent: 1}}
	reasons := map[string]string{"smoke": "GET /broken answers 500", "digest": "no digest", "ports": "not known", "latency": "of 50 requests failed"}
	for _, r := range Run(context.Background(), Instance{URL: server.URL}, suite) {
		if r.Passed || !strings.Contains(r.Reason, reasons[r.Name]) {
			t.Errorf("%+v", r)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, r := range Run(ended, Instance{URL: server.URL}, suite) {
		if r.Passed {
			t.Errorf("passed without being run: %+v", r)
		}
	}
}

func TestEachEnvironmentIsAtLeastAsStrict(t *testing.T) {
	dev, test, prod := Dev("/health"), Test("/health"), Prod("/health")
	for _, pair := range [][2]Suite{{dev, dev}, {test, dev}, {prod, test}, {prod, dev}} {
		if err := pair[0].AtLeast(pair[1]); err != nil {
			t.Error(err)
		}
	}
	for _, pair := range [][2]Suite{{dev, test}, {test, prod}, {{}, dev}} {
		if pair[0].AtLeast(pair[1]) == nil {
			t.Errorf("%+v passes for as strict as %+v", pair[0], pair[1])
		}
	}
	loose := Prod("/health")
	loose.Licences.Allow = append(loose.Licences.Allow, "GPL-3.0")
	loose.Ports.Allow = []int{22}
	loose.Latency.P99 = 0
	if err := loose.AtLeast(test); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
}
