package osv_test

import (
	"archive/zip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/osv"
)

// entry is a vulnerability of one module, its events as introduced-fixed,….
func entry(id, module, events, more string) string {
	var all []string
	for _, e := range strings.Split(events, ",") {
		from, to, ends := strings.Cut(e, "-")
		all = append(all, fmt.Sprintf(`{"introduced":%q}`, from))
		if last, is := strings.CutPrefix(to, "="); is {
			all = append(all, fmt.Sprintf(`{"last_affected":%q}`, last))
		} else if ends {
			all = append(all, fmt.Sprintf(`{"fixed":%q}`, to))
		}
	}
	return fmt.Sprintf(`{"id":%q,"modified":"2026-01-02T03:04:05Z"%s,"affected":[{"package":{"name":%q,"ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[%s]}]}]}`,
		id, more, module, strings.Join(all, ","))
}

func folder(t *testing.T, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, e := range entries {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.json", i)), e)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, at string, modules ...osv.Module) osv.Report {
	t.Helper()
	r, err := osv.Check(t.Context(), at, modules)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An image may say that it holds any number of versions of a module.
func TestManyVersionsOfAModule(t *testing.T) {
	const versions, entries = 10_000, 20
	var all []string
	for i := range entries {
		all = append(all, entry(fmt.Sprintf("GO-%d", i), "example.org/one", "0-2.0.0", ""))
	}
	var modules []osv.Module
	for i := range versions {
		modules = append(modules, osv.Module{Path: "example.org/one", Version: fmt.Sprintf("v1.0.%d", i)})
	}
	began := time.Now()
	r := check(t, folder(t, all...), modules...)
	if len(r.Findings) != entries || len(r.Findings[0].Modules) != versions || r.Findings[0].Modules[0] != modules[0] || r.Findings[0].Fixed != "2.0.0" {
		t.Errorf("%d findings", len(r.Findings))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestRanges(t *testing.T) {
	const one = "example.org/one"
	for _, test := range []struct {
		events, version string
		affected        bool
		fixed           string
	}{
		{"0-1.2.0", "v1.1.9", true, "1.2.0"},
		{"0-1.2.0", "v1.2.0", false, ""},
		{"0-1.2.0", "v0.0.0-20200101000000-abcdefabcdef", true, "1.2.0"},
		{"0-1.2.0", "v1.2.0-rc.1", true, "1.2.0"},
		{"1.1.0-1.2.0", "v1.0.9", false, ""},
		{"1.1.0-1.2.0", "v1.1.0", true, "1.2.0"},
		{"0", "v99.0.0", true, ""},
		{"0-=1.2.0", "v1.2.0", true, ""},
		{"0-=1.2.0", "v1.2.1", false, ""},
		{"0-1.2.5,1.3.0-1.3.2", "v1.2.4", true, "1.2.5"},
		{"0-1.2.5,1.3.0-1.3.2", "v1.2.5", false, ""},
		{"0-1.2.5,1.3.0-1.3.2", "v1.2.9", false, ""},
		{"0-1.2.5,1.3.0-1.3.2", "v1.3.1", true, "1.3.2"},
		{"1.3.0-1.3.2,0-1.2.5", "v1.2.4", true, "1.2.5"}, // in any order
		{"1.3.0-1.3.2,0-1.2.5", "v1.3.2", false, ""},
		{"0-2.0.0+incompatible", "v1.9.0+incompatible", true, "2.0.0+incompatible"},
	} {
		r := check(t, folder(t, entry("GO-1", one, test.events, "")), osv.Module{Path: one, Version: test.version})
		if affected := len(r.Findings) == 1; affected != test.affected || affected && r.Findings[0].Fixed != test.fixed {
			t.Errorf("%s, %s: %+v", test.events, test.version, r.Findings)
		}
	}
	two := `{"id":"GO-2","affected":[{"package":{"name":"example.org/one","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"1.0.0"},{"fixed":"1.1.0"}]},` +
		`{"type":"GIT","events":[{"introduced":"0"}]},{"type":"SEMVER","events":[{"introduced":"2.0.0"},{"fixed":"2.1.0"}]}],"versions":["1.5.0"]}]}`
	for version, affected := range map[string]bool{"v1.0.1": true, "v1.4.0": false, "v1.5.0": true, "v2.0.1": true, "v2.1.0": false} {
		if r := check(t, folder(t, two), osv.Module{Path: one, Version: version}); (len(r.Findings) == 1) != affected {
			t.Errorf("two ranges and a version, %s: %+v", version, r.Findings)
		}
	}
}

func TestGoItself(t *testing.T) {
	db := folder(t, entry("GO-S", "stdlib", "0-1.25.9,1.26.0-1.26.2", ""), entry("GO-T", "toolchain", "0-1.25.9,1.26.0-1.26.2", ""))
	for version, want := range map[string]string{
		"1.26.1": "GO-S GO-T", "go1.26.1": "GO-S GO-T", "1.26.2": "", "1.25.9": "", "1.25": "GO-S GO-T", "1.26rc1": "", "1.25.8-custom": "GO-S GO-T",
	} {
		var ids []string
		for _, f := range check(t, db, osv.Go(version)...).Findings {
			ids = append(ids, f.IDs[0])
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %q", version, got)
		}
	}
	if r := check(t, db, osv.Go("devel abc")...); len(r.Unjudged) != 2 || len(r.Findings) != 0 {
		t.Errorf("devel: %+v", r)
	}
}

func TestSeverityAndAliases(t *testing.T) {
	const one, two = "example.org/one", "example.org/two"
	vector := func(kind, v string) string { return fmt.Sprintf(`,"severity":[{"type":%q,"score":%q}]`, kind, v) }
	db := folder(t,
		entry("GO-1", one, "0", `,"aliases":["CVE-1","GHSA-1"]`),
		entry("GHSA-1", one, "0-2.0.0", `,"aliases":["CVE-1"]`+vector("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")), // 9.8
		entry("GO-2", two, "0", vector("CVSS_V3", "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H")),                                // 7.5
		entry("GO-3", one, "0", vector("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:L/SC:N/SI:N/SA:N")),             // 6.9
		entry("GO-4", one, "0", `,"database_specific":{"severity":"LOW"}`),
		entry("GO-5", one, "0", `,"database_specific":{"severity":7}`+vector("CVSS_V3", "CVSS:3.1/nonsense")),
		entry("GO-6", one, "0", `,"withdrawn":"2026-01-03T00:00:00Z"`+vector("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")),
		entry("GO-7", "example.org/three", "0", ""),
		entry("GO-8", two, "0", `,"aliases":["CVE-8"]`), entry("GO-9", one, "0", `,"aliases":["CVE-9","CVE-8"]`), // one, by way of its alias
	)
	r := check(t, db, osv.Module{Path: one, Version: "v1.0.0"}, osv.Module{Path: two, Version: "v1.0.0"}, osv.Module{Path: "example.org/own", Version: "(devel)"})
	got := map[string]string{}
	for _, f := range r.Findings {
		got[strings.Join(f.IDs, " ")] = fmt.Sprintf("%s %d", f.Severity, len(f.Modules))
	}
	want := map[string]string{"GHSA-1 CVE-1 GO-1": "critical 1", "GO-2": "high 1", "GO-3": "medium 1", "GO-4": "low 1", "GO-5": "unknown 1", "GO-8 CVE-8 GO-9 CVE-9": "unknown 2"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if r.Count(osv.Critical) != 1 || r.Count(osv.Unknown) != 2 || r.Findings[0].Severity != osv.Critical || len(r.Unjudged) != 1 || r.Modified.IsZero() {
		t.Errorf("%+v", r)
	}
}

// The programs of an image may have several versions of a module: the one that is looked at last must not speak for the others.
func TestSeveralVersionsOfAModule(t *testing.T) {
	t.Parallel()
	bad, good := osv.Module{Path: "example.org/one", Version: "v1.0.0"}, osv.Module{Path: "example.org/one", Version: "v1.2.0"}
	db := folder(t, entry("GO-1", bad.Path, "0-1.1.0", ""))
	for _, modules := range [][]osv.Module{{bad, good}, {good, bad}} {
		if r := check(t, db, modules...); len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Modules, []osv.Module{bad}) {
			t.Errorf("%v: %+v", modules, r)
		}
	}
}

// The Go vulnerability database: a folder, a zip, a mirror. Only what the index names is read.
func TestGoDatabase(t *testing.T) {
	files := map[string]string{
		"index/db.json":      `{"modified":"2026-02-03T04:05:06Z"}`,
		"index/modules.json": `[{"path":"example.org/one","vulns":[{"id":"GO-1","modified":"2026-01-01T00:00:00Z","fixed":"1.1.0"}]},{"path":"example.org/two","vulns":[{"id":"GO-2"}]}]`,
		"ID/GO-1.json":       entry("GO-1", "example.org/one", "0-1.1.0", ""),
		"ID/GO-3.json":       "not read",
	}
	dir := t.TempDir()
	archive := filepath.Join(t.TempDir(), "vulndb.zip")
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	packed := zip.NewWriter(out)
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
		w, err := packed.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	server := httptest.NewServer(http.StripPrefix("/db", http.FileServer(http.Dir(dir))))
	t.Cleanup(server.Close)
	one := osv.Module{Path: "example.org/one", Version: "v1.0.0"}
	for _, at := range []string{dir, "file://" + dir, archive, server.URL + "/db/"} {
		r := check(t, at, one)
		if len(r.Findings) != 1 || r.Findings[0].Fixed != "1.1.0" || !slices.Equal(r.Findings[0].Modules, []osv.Module{one}) || r.Modified.Year() != 2026 {
			t.Errorf("%s: %+v", at, r)
		}
		// What the index names and is not there is no "none".
		if r, err := osv.Check(t.Context(), at, []osv.Module{{Path: "example.org/two", Version: "v1.0.0"}}); err == nil {
			t.Errorf("%s: %+v of an entry that is not there", at, r)
		}
	}
}

func TestNoDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "text")
	nothing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(nothing.Close)
	climb := t.TempDir()
	write(t, filepath.Join(climb, "index", "modules.json"), `[{"path":"example.org/one","vulns":[{"id":"../x"}]}]`)
	for name, at := range map[string]string{
		"nothing": "", "no folder": filepath.Join(t.TempDir(), "none"), "empty folder": t.TempDir(), "a file": file, "nothing there": nothing.URL,
		"nobody": "http://127.0.0.1:1", "no JSON": folder(t, "{"), "no id": folder(t, "{}"), "an id that climbs": climb,
	} {
		if r, err := osv.Check(t.Context(), at, []osv.Module{{Path: "example.org/one", Version: "v1.0.0"}}); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(entry("GO-1", "example.org/one", "0-1.2.5,1.3.0-1.3.2", `,"aliases":["CVE-1"]`))
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := osv.Check(t.Context(), folder(t, text), []osv.Module{{Path: "example.org/one", Version: "v1.0.0"}}); err == nil && len(r.Findings) > 1 {
			t.Fatalf("%+v of one entry", r)
		}
	})
}
