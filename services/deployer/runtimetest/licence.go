//go:build linux

package runtimetest

import "github.com/lemnis/lemnis/internal/licence"

// of returns the SPDX identifiers of a module's licences, none when unknown: what people said, else what the texts in the
// module cache are.
func (l Licences) of(path, version string) []string {
	for _, key := range []string{path + "@" + version, path} {
		if known := l.Known[key]; known != "" {
			return []string{known}
		}
	}
	return licence.Of(l.ModuleCache, path, version)
}
