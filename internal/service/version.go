package service

import (
	"net/http"
	"runtime/debug"
	"sync"
)

// Version is what the go command put into the program: the module's version, or the commit.
var Version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return info.Main.Version
})

// SayVersion puts the program's version on an answer, so that an operator sees what runs.
func SayVersion(w http.ResponseWriter) { w.Header().Set("Lemnis-Version", Version()) }
