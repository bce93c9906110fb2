// Package osv says which known vulnerabilities the modules of a program have, by a database on this machine or a mirror of one,
// in the format of OSV: the Go vulnerability database (index/modules.json and ID/*.json) in a folder, a zip or behind a URL, or a
// folder or zip of entries, such as osv.dev offers them.
//
//	report, err := osv.Check(ctx, "/var/lib/lemnis/vulndb", modules)
//
// A module counts as affected by its version; whether the program calls what is vulnerable is not looked at.
package osv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/lemnis/lemnis/internal/sbom"
)

// Module is a Go module at a version. The standard library and the toolchain are "stdlib" and "toolchain", with versions like
// 1.26.0.
type Module struct{ Path, Version string }

// Go are the two modules of a version of Go, such as "1.26.0", "1.21" or "1.27rc1".
func Go(version string) []Module {
	return []Module{{"stdlib", version}, {"toolchain", version}}
}

// Finding is one vulnerability. What is known under several names, or affects several modules, is one.
type Finding struct {
	IDs      []string // of it and its aliases, the database's own first
	Modules  []Module // that are affected
	Fixed    string   // version that mends the first of them; empty: none is named
	Severity Severity
	Summary  string
}

// Report is what a database says of a program.
type Report struct {
	Modified time.Time // when the database was changed last; zero: it does not say
	Findings []Finding // the worst first
	Unjudged []Module  // whose version is none that can be compared
}

// Count counts the findings of a severity.
func (r Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Check looks the modules up in the database at a folder, a zip or a URL. An error means that nothing is known.
func Check(ctx context.Context, at string, modules []Module) (Report, error) {
	from, err := open(at)
	if err != nil {
		return Report{}, fmt.Errorf("vulnerability database: %w", err)
	}
	defer func() { _ = from.close() }()
	var report Report
	wanted, paths := map[Module]string{}, map[string]bool{} // canonical versions: several programs may have several of one path
	of := map[string][]int{}
	for i, m := range modules {
		if version := versionOf(m); version != "" {
			wanted[m], paths[m.Path] = version, true
			of[m.Path] = append(of[m.Path], i)
		} else {
			report.Unjudged = append(report.Unjudged, m)
		}
	}
	entries, modified, err := load(ctx, from, paths)
	if err != nil {
		return Report{}, fmt.Errorf("vulnerability database: %w", err)
	}
	report.Modified = modified
	for _, e := range entries {
		if found, ok := judge(e, wanted, modules, of); ok {
			report.Findings = append(report.Findings, found)
		}
	}
	report.Findings = merge(report.Findings)
	return report, nil
}

// versionOf is a module's version in canonical form; empty when it cannot be compared, as "(devel)".
func versionOf(m Module) string {
	version := m.Version
	if m.Path == "stdlib" || m.Path == "toolchain" {
		// 1.27rc1 is 1.27.0-rc.1, and sorts before 1.27.0.
		version, _, _ = strings.Cut(strings.TrimPrefix(version, "go"), "-")
		for _, mark := range []string{"rc", "beta"} {
			if number, n, found := strings.Cut(version, mark); found {
				if strings.Count(number, ".") == 1 {
					number += ".0"
				}
				return semver.Canonical("v" + number + "-" + mark + "." + n)
			}
		}
	}
	return semver.Canonical("v" + strings.TrimPrefix(version, "v"))
}

// load reads the entries that may concern the modules.
func load(ctx context.Context, from source, wanted map[string]bool) ([]entry, time.Time, error) {
	index, err := from.read(ctx, "index/modules.json")
	if errors.Is(err, fs.ErrNotExist) {
		index, err = from.read(ctx, "modules.json")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return loadAll(ctx, from)
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	var listed []struct {
		Path  string
		Vulns []struct{ ID string }
	}
	if err := json.Unmarshal(index, &listed); err != nil {
		return nil, time.Time{}, fmt.Errorf("modules.json: %w", err)
	}
	ids := map[string]bool{}
	for _, m := range listed {
		if !wanted[m.Path] {
			continue
		}
		for _, v := range m.Vulns {
			ids[v.ID] = true
		}
	}
	var entries []entry
	for id := range ids {
		if id == "" || strings.ContainsAny(id, `/\?#`) || strings.HasPrefix(id, ".") {
			return nil, time.Time{}, fmt.Errorf("modules.json: %q is no id", id)
		}
		e, err := readEntry(ctx, from, "ID/"+id+".json")
		if err != nil {
			return nil, time.Time{}, err // what the index names and is not there may be the worst of all
		}
		entries = append(entries, e)
	}
	var db struct{ Modified time.Time }
	if text, err := from.read(ctx, "index/db.json"); err == nil {
		if err := json.Unmarshal(text, &db); err != nil {
			return nil, time.Time{}, fmt.Errorf("db.json: %w", err)
		}
	}
	return entries, db.Modified, nil
}

// loadAll reads a folder that has no index. Its age is that of its youngest entry.
func loadAll(ctx context.Context, from source) ([]entry, time.Time, error) {
	names, err := from.list()
	if err != nil {
		return nil, time.Time{}, err
	}
	var entries []entry
	var modified time.Time
	for _, name := range names {
		if path.Dir(name) == "index" {
			continue
		}
		e, err := readEntry(ctx, from, name)
		if err != nil {
			return nil, time.Time{}, err
		}
		entries = append(entries, e)
		if e.Modified.After(modified) {
			modified = e.Modified
		}
	}
	if len(entries) == 0 {
		return nil, time.Time{}, errors.New("there is no entry in it")
	}
	return entries, modified, nil
}

func readEntry(ctx context.Context, from source, name string) (entry, error) {
	text, err := from.read(ctx, name)
	if err != nil {
		return entry{}, err
	}
	e, err := parse(text)
	if err == nil && e.ID == "" {
		err = errors.New("it has no id")
	}
	if err != nil {
		return entry{}, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

// judge says which of the modules an entry is about; of are their places by path.
func judge(e entry, wanted map[Module]string, modules []Module, of map[string][]int) (Finding, bool) {
	found := Finding{IDs: append([]string{e.ID}, e.Aliases...), Summary: e.Summary}
	if e.Withdrawn != nil {
		return found, false
	}
	looked, fixes := map[string]bool{}, map[Module]string{}
	at := map[Module]int{} // what is affected: its place among all
	for _, a := range e.Affected {
		name := a.Package.Name
		if a.Package.Ecosystem != "Go" || looked[name] {
			continue
		}
		looked[name] = true
		for _, i := range of[name] {
			m := modules[i]
			if _, there := at[m]; there {
				continue
			}
			for _, a := range e.Affected {
				if a.Package.Ecosystem != "Go" || a.Package.Name != name {
					continue
				}
				if fixed, is := a.holds(wanted[m]); is {
					found.Severity = max(found.Severity, e.severity(a))
					if _, there := at[m]; !there {
						at[m], fixes[m] = i, fixed
					}
				}
			}
		}
	}
	found.Modules = slices.SortedFunc(maps.Keys(at), func(a, b Module) int { return cmp.Compare(at[a], at[b]) })
	if len(found.Modules) > 0 {
		found.Fixed = fixes[found.Modules[0]]
	}
	return found, len(found.Modules) > 0
}

// merge makes one of those that have a name in common, also by way of a third, and sorts them.
func merge(all []Finding) []Finding {
	slices.SortFunc(all, func(a, b Finding) int { return strings.Compare(a.IDs[0], b.IDs[0]) })
	var out []Finding
	for _, f := range all {
		rest := out[:0]
		for _, o := range out {
			if !slices.ContainsFunc(o.IDs, func(id string) bool { return slices.Contains(f.IDs, id) }) {
				rest = append(rest, o)
				continue
			}
			f = Finding{
				IDs: union(o.IDs, f.IDs), Modules: union(o.Modules, f.Modules), Fixed: cmp.Or(o.Fixed, f.Fixed),
				Severity: max(o.Severity, f.Severity), Summary: cmp.Or(o.Summary, f.Summary),
			}
		}
		rest = append(rest, f)
		out = rest
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), strings.Compare(a.IDs[0], b.IDs[0]))
	})
	return out
}

func union[T comparable](a, b []T) []T {
	known := make(map[T]bool, len(a))
	out := slices.Clone(a)
	for _, x := range a {
		known[x] = true
	}
	for _, x := range b {
		if !known[x] {
			out = append(out, x)
		}
	}
	return out
}

// Modules are those of a program: what is linked into it, and its version of Go.
func Modules(p sbom.Program) []Module {
	all := Go(p.Go())
	for _, m := range p.Info.Deps {
		if at := sbom.Linked(m); at.Version != "" { // one that is replaced by a folder is the project's own
			all = append(all, Module{at.Path, at.Version})
		}
	}
	return all
}
