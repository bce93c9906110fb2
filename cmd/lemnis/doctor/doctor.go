// Package doctor looks at an installation from the outside, and says what is wrong and what mends it.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/reach"
	"github.com/lemnis/lemnis/internal/secret"
)

// The states of a check.
const (
	OK      = "ok"
	Warning = "warning" // it works, and will not for ever
	Error   = "error"   // something does not work
	Skipped = "skipped" // it could not be looked at
)

// Finding is something that is wrong.
type Finding struct {
	Severity string `json:"severity"` // Warning or Error
	Check    string `json:"check"`
	What     string `json:"what"`
	Why      string `json:"why"`  // it matters
	Mend     string `json:"mend"` // the command, or the setting
}

// Check is something that was looked at.
type Check struct {
	Name   string `json:"name"`
	State  string `json:"state"` // the worst of its findings
	Detail string `json:"detail,omitempty"`
}

// Report is all that was seen.
type Report struct {
	At       time.Time `json:"at"`
	Healthy  bool      `json:"healthy"`
	Checks   []Check   `json:"checks"`
	Findings []Finding `json:"findings"`
}

// Options say where to look.
type Options struct {
	Client *api.Client
	Bus    reach.Address
	Health []string // URLs under which services answer /readyz
	Redis  string   // URL; empty: it is not looked at
}

// timeout bounds each check.
const timeout = 15 * time.Second

// round is one look at an installation.
type round struct {
	options Options
	report  Report
	check   int // the index of the one that is at work
}

// Examine looks at everything that it can reach.
func Examine(ctx context.Context, o Options) Report {
	r := &round{options: o, report: Report{At: time.Now().UTC(), Findings: []Finding{}}}
	r.examine(ctx, "gateway", r.gateway)
	r.examine(ctx, "registry", r.registry)
	r.examine(ctx, "tokens", r.tokens)
	r.examine(ctx, "quotas", r.quotas)
	for _, url := range o.Health {
		r.examine(ctx, "service "+url, func(ctx context.Context) { r.service(ctx, url) })
	}
	if o.Redis != "" {
		r.examine(ctx, "redis", r.redis)
	}
	r.bus(ctx)
	r.machine(ctx)
	r.report.Healthy = len(r.report.Findings) == 0
	return r.report
}

func (r *round) examine(ctx context.Context, name string, look func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r.report.Checks = append(r.report.Checks, Check{Name: name, State: OK})
	r.check = len(r.report.Checks) - 1
	look(ctx)
}

// says notes what a check has seen.
func (r *round) says(format string, args ...any) {
	c := &r.report.Checks[r.check]
	if c.Detail != "" {
		c.Detail += "; "
	}
	c.Detail += fmt.Sprintf(format, args...)
}

// skip notes that something could not be looked at.
func (r *round) skip(format string, args ...any) {
	if c := &r.report.Checks[r.check]; c.State == OK {
		c.State = Skipped
	}
	r.says(format, args...)
}

// find notes what is wrong.
func (r *round) find(severity, why, mend, format string, args ...any) {
	c := &r.report.Checks[r.check]
	if c.State != Error {
		c.State = severity
	}
	r.report.Findings = append(r.report.Findings, Finding{Severity: severity, Check: c.Name, What: fmt.Sprintf(format, args...), Why: why, Mend: mend})
}

// skewed judges how far another clock is from this machine's.
func (r *round) skewed(whose string, off, exact time.Duration) {
	far := max(off, -off) - exact
	why := "deadlines, tokens and durations go by these clocks"
	mend := "synchronise the clocks (timedatectl set-ntp true, or chrony) on both machines"
	switch {
	case far > 30*time.Second:
		r.find(Error, why, mend, "the clock of %s is %s off this machine's", whose, off.Round(time.Second))
	case far > 2*time.Second:
		r.find(Warning, why, mend, "the clock of %s is %s off this machine's", whose, off.Round(time.Second))
	}
}

// expires judges how long a certificate is still good.
func (r *round) expires(whose string, at time.Time) {
	left := time.Until(at)
	mend := "renew the certificate; the files are read again without a restart"
	switch {
	case at.IsZero():
	case left < 0:
		r.find(Error, "nobody who checks it connects any more", mend, "the certificate of %s has expired at %s", whose, at.UTC().Format(time.RFC3339))
	case left < 14*24*time.Hour:
		r.find(Warning, "nobody who checks it connects after that", mend, "the certificate of %s expires in %s", whose, left.Round(time.Hour))
	default:
		r.says("certificate good for %d days", int(left/(24*time.Hour)))
	}
}

// redis asks the store of folds, each where there are several, whether it is there.
func (r *round) redis(ctx context.Context) {
	for address := range strings.SplitSeq(r.options.Redis, ",") {
		r.oneRedis(ctx, address)
	}
}

func (r *round) oneRedis(ctx context.Context, address string) {
	why := "folds are then only in memory: a new owner folds the whole stream, and rates are not limited"
	o, err := redis.ParseURL(address)
	if err != nil {
		r.find(Error, why, "correct --redis", "the address of Redis is none: %v", secret.RedactError(err))
		return
	}
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	began := time.Now()
	if err := c.Ping(ctx).Err(); err != nil {
		r.find(Error, why, "start Redis, or correct LEMNIS_REDIS_URL", "Redis at %s does not answer: %v", o.Addr, err)
		return
	}
	took := time.Since(began)
	r.says("%s answers in %s", o.Addr, took.Round(10*time.Microsecond))
	if took > 100*time.Millisecond {
		r.find(Warning, "claims wait for the memory of what was claimed", "bring Redis nearer, or look at its load (redis-cli --latency)", "Redis at %s takes %s to answer", o.Addr, took.Round(time.Millisecond))
	}
}
