//go:build linux

package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind is what a test is about.
type Kind string

// The kinds of runtime tests.
const (
	Quality    Kind = "quality"
	Compliance Kind = "compliance"
	Security   Kind = "security"
)

// Result of one test.
type Result struct {
	Kind   Kind               `json:"kind"`
	Name   string             `json:"name"`
	Passed bool               `json:"passed"`
	Reason string             `json:"reason"`
	Values map[string]float64 `json:"values,omitempty"` // times in seconds
	Took   time.Duration      `json:"took"`
	// Unisolated is why a Command had the rights and view of the machine that its host has; empty: it had not.
	Unisolated string `json:"unisolated,omitempty"`
}

// Instance is what is tested.
type Instance struct {
	URL        string // http://127.0.0.1:port
	Port       int
	PID        int    // of the process and of its group; 0: not on this machine
	Executable string // its file; with a PID, the file that the process runs is read instead
	Digest     string // as the pipeline stated it, sha256:<hex>
}

// Suite is what an environment demands. A nil part is not tested.
type Suite struct {
	Smoke    *Smoke    `json:"smoke,omitempty"`
	Latency  *Latency  `json:"latency,omitempty"`
	Digest   bool      `json:"digest,omitempty"`
	Licences *Licences `json:"licences,omitempty"`
	Headers  *Headers  `json:"headers,omitempty"`
	Ports    *Ports    `json:"ports,omitempty"`

	Vulnerabilities *Vulnerabilities `json:"vulnerabilities,omitempty"`
	Metrics         *Metrics         `json:"metrics,omitempty"`
	Contract        *Contract        `json:"contract,omitempty"`
	Secrets         *Secrets         `json:"secrets,omitempty"`
	TLS             *TLS             `json:"tls,omitempty"`
	Commands        []Command        `json:"commands,omitempty"`
	Host            Host             `json:"-"` // of the Commands
}

// Smoke asks each path once by GET and wants 2xx.
type Smoke struct {
	Paths []string `json:"paths"`
}

// Latency sends Requests GETs of Path and compares percentiles; any answer but 2xx fails it.
type Latency struct {
	Path       string        `json:"path"`
	Requests   int           `json:"requests"`   // 0: 200
	Concurrent int           `json:"concurrent"` // 0: 4
	P50        time.Duration `json:"p50"`        // limit; 0: none
	P99        time.Duration `json:"p99"`        // limit; 0: none
}

// Licences is the policy for the modules within the executable.
type Licences struct {
	Allow []string `json:"allow"` // SPDX identifiers
	// AllowUnknown passes modules whose licence was not found; they are named all the same.
	AllowUnknown bool `json:"allowUnknown,omitempty"`
	// Known maps a module, "path" or "path@version", to its SPDX identifier and goes before the module cache.
	Known map[string]string `json:"known,omitempty"`
	// Own are path prefixes of modules of the project's own, which need no licence.
	Own []string `json:"own,omitempty"`
	// Billed and Unlicensed are what the artifact's bill of materials has, for a file that carries no list of modules: SPDX identifiers, and
	// what has none that is known.
	Billed     []string `json:"billed,omitempty"`
	Unlicensed []string `json:"unlicensed,omitempty"`
	// ModuleCache is the folder with the modules' files, as `go env GOMODCACHE` prints it.
	ModuleCache string `json:"moduleCache,omitempty"`
}

// Vulnerabilities are looked up again, since a database learns after a build.
type Vulnerabilities struct {
	Database string                  `json:"database"` // folder, zip or URL, as package osv takes it
	Most     map[events.Severity]int `json:"most"`     // that may be known
}

// Headers are wanted of the answer to each path.
type Headers struct {
	Paths []string `json:"paths"`
	// Require maps a header to its value; "" takes any value.
	Require map[string]string `json:"require"`
	// NoVersion names headers that must not hold a digit, which would tell attackers what to look for.
	NoVersion []string `json:"noVersion"`
}

// Ports allows listening ports beside the instance's own.
type Ports struct {
	Allow []int `json:"allow,omitempty"`
	// Loopback demands that nothing listens beyond loopback.
	Loopback bool `json:"loopback,omitempty"`
}

// Permissive are the SPDX identifiers of licences that ask for no more than notices.
var Permissive = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "Unlicense", "Zlib"}

// Dev is the suite for a first environment; path is the service's health path.
func Dev(path string) Suite {
	return Suite{
		Smoke:    &Smoke{Paths: []string{path}},
		Latency:  &Latency{Path: path, Requests: 100, P99: 2 * time.Second},
		Digest:   true,
		Licences: &Licences{Allow: append(slices.Clone(Permissive), "MPL-2.0"), AllowUnknown: true},
		Headers:  &Headers{Paths: []string{path}, Require: map[string]string{"Content-Type": ""}, NoVersion: []string{"Server", "X-Powered-By"}},
		Ports:    &Ports{},
		Contract: &Contract{Path: "/openapi.json"},
		Secrets:  &Secrets{},
	}
}

// Test is stricter than Dev.
func Test(path string) Suite {
	s := Dev(path)
	s.Latency = &Latency{Path: path, Requests: 200, P50: 250 * time.Millisecond, P99: time.Second}
	s.Licences.AllowUnknown = false
	s.Headers.Require["X-Content-Type-Options"] = "nosniff"
	return s
}

// Prod is stricter than Test.
func Prod(path string) Suite {
	s := Test(path)
	s.Latency = &Latency{Path: path, Requests: 400, P50: 100 * time.Millisecond, P99: 500 * time.Millisecond}
	s.Ports.Loopback = true
	return s
}

// Run runs the suite's tests one after the other, since each would disturb the latency of another.
func Run(ctx context.Context, instance Instance, suite Suite) []Result {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	var results []Result
	run := func(wanted bool, kind Kind, name string, test func(*Result) error) {
		if !wanted {
			return
		}
		r, start := Result{Kind: kind, Name: name, Values: map[string]float64{}}, time.Now()
		err := ctx.Err()
		if err == nil {
			err = test(&r)
		}
		r.Passed, r.Took = err == nil, time.Since(start)
		if err != nil {
			r.Reason = err.Error()
		}
		if !errors.Is(err, errNotThere) {
			results = append(results, r)
		}
	}
	run(suite.Smoke != nil, Quality, "smoke", func(r *Result) error { return smoke(ctx, client, instance, *suite.Smoke, r) })
	run(suite.Latency != nil, Quality, "latency", func(r *Result) error { return latency(ctx, client, instance, *suite.Latency, r) })
	run(suite.Metrics != nil, Quality, "metrics", func(r *Result) error { return metrics(ctx, client, instance, *suite.Metrics, r) })
	run(suite.Contract != nil, Quality, "contract", func(r *Result) error { return contract(ctx, client, instance, *suite.Contract, r) })
	run(suite.Digest, Compliance, "digest", func(r *Result) error { return digest(instance, r) })
	run(suite.Licences != nil, Compliance, "licences", func(r *Result) error { return licences(instance, *suite.Licences, r) })
	run(suite.Vulnerabilities != nil, Security, "vulnerabilities", func(r *Result) error { return vulnerabilities(ctx, instance, *suite.Vulnerabilities, r) })
	run(suite.Headers != nil, Security, "headers", func(r *Result) error { return headers(ctx, client, instance, *suite.Headers, r) })
	run(suite.Ports != nil, Security, "ports", func(r *Result) error { return ports(instance, *suite.Ports, r) })
	run(suite.TLS != nil, Security, "tls", func(r *Result) error { return reachedByTLS(ctx, *suite.TLS, r) })
	run(suite.Secrets != nil, Security, "secrets", func(r *Result) error { return secrets(instance, *suite.Secrets, r) })
	for _, c := range suite.Commands {
		run(true, c.Kind, "commands."+c.Name, func(r *Result) error { return suite.Host.command(ctx, instance, c, r) })
	}
	return results
}

// AtLeast returns nil when s demands all that the suite before demands, else what it lacks.
func (s Suite) AtLeast(before Suite) error {
	var lacks []error
	lack := func(missing bool, format string, args ...any) {
		if missing {
			lacks = append(lacks, fmt.Errorf(format, args...))
		}
	}
	if b := before.Smoke; b != nil {
		lack(s.Smoke == nil || !subset(b.Paths, s.Smoke.Paths), "smoke: not all of the paths %s", strings.Join(b.Paths, ", "))
	}
	if b := before.Latency; b != nil {
		looser := func(now, then time.Duration) bool { return then > 0 && (now == 0 || now > then) }
		lack(s.Latency == nil || looser(s.Latency.P50, b.P50) || looser(s.Latency.P99, b.P99), "latency: looser than p50 %s, p99 %s", b.P50, b.P99)
	}
	lack(before.Digest && !s.Digest, "digest: not tested")
	if b := before.Secrets; b != nil {
		lack(s.Secrets == nil || !subset(s.Secrets.Harmless, b.Harmless), "secrets: not looked for, or more are called harmless")
	}
	lack(before.Contract != nil && (s.Contract == nil || before.Contract.Must && !s.Contract.Must), "contract: not tested")
	if b := before.Licences; b != nil {
		lack(s.Licences == nil || !subset(s.Licences.Allow, b.Allow) || s.Licences.AllowUnknown && !b.AllowUnknown, "licences: allows more")
	}
	if b := before.Headers; b != nil {
		lack(s.Headers == nil || !subset(b.Paths, s.Headers.Paths) || !subset(b.NoVersion, s.Headers.NoVersion), "headers: fewer paths or names")
		for _, name := range slices.Sorted(maps.Keys(b.Require)) {
			if s.Headers != nil {
				value, ok := s.Headers.Require[name]
				lack(!ok || b.Require[name] != "" && value != b.Require[name], "headers: %s is not required as before", name)
			}
		}
	}
	if b := before.Vulnerabilities; b != nil {
		for _, severity := range events.Severities() {
			if most, asked := b.Most[severity]; asked {
				now, still := 0, s.Vulnerabilities != nil
				if still {
					now, still = s.Vulnerabilities.Most[severity]
				}
				lack(!still || now > most, "vulnerabilities: more that are %s", severity)
			}
		}
	}
	if b := before.Ports; b != nil {
		lack(s.Ports == nil || !subset(s.Ports.Allow, b.Allow) || b.Loopback && !s.Ports.Loopback, "ports: allows more")
	}
	return errors.Join(lacks...)
}

func subset[T comparable](part, whole []T) bool {
	return !slices.ContainsFunc(part, func(x T) bool { return !slices.Contains(whole, x) })
}
