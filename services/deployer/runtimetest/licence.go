//go:build linux

package runtimetest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// of returns the SPDX identifiers of a module's licences, none when unknown. With several files or texts all of
// them count: which one may be chosen is for people to say, in Known.
func (l Licences) of(path, version string) []string {
	for _, key := range []string{path + "@" + version, path} {
		if licence := l.Known[key]; licence != "" {
			return []string{licence}
		}
	}
	if l.ModuleCache == "" || version == "" {
		return nil
	}
	folder := filepath.Join(l.ModuleCache, escape(path)+"@"+escape(version))
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "UNLICENSE", "MIT-LICENSE"},
			func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil
		}
		recognised := recognise(string(text))
		if len(recognised) == 0 {
			return nil // a text that is not understood may say anything
		}
		for _, licence := range recognised {
			if !slices.Contains(found, licence) {
				found = append(found, licence)
			}
		}
	}
	return found
}

// escape writes a path as the module cache does: upper case as ! and lower case.
func escape(path string) string {
	var b strings.Builder
	for _, r := range path {
		if unicode.IsUpper(r) {
			b.WriteByte('!')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// titles name a licence within the first words of a file; the first that is found holds.
var titles = []struct{ words, licence string }{
	{"gnu affero general public license version 3", "AGPL-3.0"},
	{"gnu lesser general public license version 3", "LGPL-3.0"},
	{"gnu lesser general public license version 2.1", "LGPL-2.1"},
	{"gnu general public license version 3", "GPL-3.0"},
	{"gnu general public license version 2", "GPL-2.0"},
	{"mozilla public license version 2.0", "MPL-2.0"},
	{"mozilla public license, version 2.0", "MPL-2.0"},
	{"eclipse public license - v 2.0", "EPL-2.0"},
	{"business source license 1.1", "BUSL-1.1"},
	{"server side public license", "SSPL-1.0"},
	{"elastic license 2.0", "Elastic-2.0"},
	{"boost software license - version 1.0", "BSL-1.0"},
	{"creative commons zero v1.0", "CC0-1.0"},
	{"cc0 1.0 universal", "CC0-1.0"},
}

// recognise names the licences whose wording the text holds.
func recognise(text string) []string {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	var found []string
	add := func(holds bool, licence string) {
		if holds && !slices.Contains(found, licence) {
			found = append(found, licence)
		}
	}
	has := func(words string) bool { return strings.Contains(text, words) }
	start := text[:min(len(text), 600)]
	for _, t := range titles {
		if strings.Contains(start, t.words) {
			add(true, t.licence)
			break
		}
	}
	add(has("apache license version 2.0, january 2004") || has("licensed under the apache license, version 2.0"), "Apache-2.0")
	add(has("permission is hereby granted, free of charge, to any person obtaining a copy") && has("the above copyright notice and this permission notice"), "MIT")
	bsd := has("redistribution and use in source and binary forms")
	three := has("neither the name") || has("may not be used to endorse") || has("may be used to endorse")
	add(bsd && three && !has("all advertising materials"), "BSD-3-Clause")
	add(bsd && has("all advertising materials"), "BSD-4-Clause")
	add(bsd && !three && !has("all advertising materials"), "BSD-2-Clause")
	isc := has("permission to use, copy, modify, and/or distribute this software for any purpose") || has("permission to use, copy, modify, and distribute this software for any purpose")
	add(isc && has("appear in all copies"), "ISC")
	add(isc && !has("appear in all copies"), "0BSD")
	add(has("this is free and unencumbered software released into the public domain"), "Unlicense")
	add(has("altered source versions must be plainly marked"), "Zlib")
	add(has("commons clause"), "Commons-Clause")
	return found
}
