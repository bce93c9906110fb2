// Package licence says under which licences a Go module is, from the texts in the module cache.
package licence

import (
	"bytes"
	"context"
	"go/build"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"golang.org/x/mod/module"

	"github.com/lemnis/lemnis/internal/hostgo"
)

const (
	// A text that is not understood may say anything: covered is the share of it, in percent of its words, that has to be
	// of known licences, and strange the number of words that may be none, such as whose work it is.
	covered = 75
	strange = 80
	// mostText of a licence's file is read.
	mostText = 1 << 20
)

var names = []string{"LICENSE", "LICENCE", "COPYING", "UNLICENSE", "MIT-LICENSE"}

// Cache is the folder in which the host's go command keeps modules; where it can not be asked, the one by GOMODCACHE or GOPATH, or by
// default. It is empty where there is none.
func Cache(ctx context.Context) string {
	if host, err := hostgo.Env(ctx); err == nil {
		return host["GOMODCACHE"]
	}
	if folder := os.Getenv("GOMODCACHE"); folder != "" {
		return folder
	}
	first, _, _ := strings.Cut(build.Default.GOPATH, string(filepath.ListSeparator))
	if first == "" {
		return ""
	}
	return filepath.Join(first, "pkg", "mod")
}

// Of returns the SPDX identifiers of a module's licences, sorted; none when they are not known. With several files or texts
// all of them count: which one may be chosen is for people to say.
func Of(cache, path, version string) []string {
	escaped, err := module.EscapePath(path)
	if err != nil || cache == "" || version == "" {
		return nil
	}
	at, err := module.EscapeVersion(version)
	if err != nil {
		return nil
	}
	folder := filepath.Join(cache, filepath.FromSlash(escaped)+"@"+at)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if !e.Type().IsRegular() || strings.HasSuffix(name, ".GO") || !slices.ContainsFunc(names, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		if info, err := e.Info(); err != nil || info.Size() > mostText {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil
		}
		recognised := Recognise(text)
		if len(recognised) == 0 {
			return nil
		}
		found = append(found, recognised...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Recognise names the licences that make up a text, sorted; none when much of it is something else.
func Recognise(text []byte) []string {
	c := licensecheck.Scan(text)
	if c.Percent < covered {
		return nil
	}
	var found []string
	rest, end := 0, 0
	for _, m := range c.Match {
		rest += len(bytes.Fields(text[end:m.Start]))
		found, end = append(found, m.ID), m.End
	}
	if rest+len(bytes.Fields(text[end:])) > strange {
		return nil
	}
	slices.Sort(found)
	return slices.Compact(found)
}
