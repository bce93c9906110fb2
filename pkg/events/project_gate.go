package events

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Gate is what an artifact has to prove before it enters an environment. A zero field asks
// nothing.
type Gate struct {
	Tests     string   `json:"tests,omitempty"`            // "passed"
	Coverage  float64  `json:"coverage,omitempty"`         // percent
	Changed   float64  `json:"coverage-changed,omitempty"` // percent of the lines that the change touches
	Approvals int      `json:"approvals,omitempty"`        // of people other than the author
	Soak      Duration `json:"soak,omitempty"`             // time in the environment before
	Runtime   string   `json:"runtime,omitempty"`          // "passed": runtime tests of the environment before

	Signature       string           `json:"signature,omitempty"`       // "verified": of a key that the project trusts
	Vulnerabilities map[Severity]int `json:"vulnerabilities,omitempty"` // known ones, at most
	Licenses        []string         `json:"licenses,omitempty"`        // SPDX ids that modules may have; an unknown licence is none of them
	Before          *Before          `json:"before,omitempty"`          // what users met in the environment before
	Freeze          []Freeze         `json:"freeze,omitempty"`          // windows in which nothing enters
	Conditions      []Condition      `json:"conditions,omitempty"`      // of the project's own; later environments have them too
}

// Before bounds what the users of the environment before met of this artifact. Zero fields ask nothing.
type Before struct {
	Requests int      `json:"requests,omitempty"` // that it has to have served there; default 100
	Errors   *Percent `json:"errors,omitempty"`   // share of requests that failed, at most
	P99      Duration `json:"p99,omitempty"`      // latency that 99 of 100 requests kept
}

// DefaultBeforeRequests is how many requests errors and latency rest on where the gate does not say.
const DefaultBeforeRequests = 100

// Least is how many requests there have to be.
func (b Before) Least() int {
	if b.Requests > 0 {
		return b.Requests
	}
	return DefaultBeforeRequests
}

// Condition is a check of the project's own: a CEL expression that has to be true.
type Condition struct {
	Name string `json:"name"`
	That string `json:"that"`
}

// Freeze is a window in which nothing enters an environment, in UTC: once, from and until a date ("2026-12-23") or an instant
// (RFC 3339); or each week on days, from and until a time of day ("16:00"). Without the times it is the whole day; a window
// that ends before it begins goes on into the next day.
type Freeze struct {
	From   string   `json:"from,omitempty"`
	Until  string   `json:"until,omitempty"` // the first moment after it
	Days   []string `json:"days,omitempty"`  // mon, tue, wed, thu, fri, sat, sun
	Reason string   `json:"reason,omitempty"`
}

// String says when it is.
func (f Freeze) String() string {
	when := strings.Join(f.Days, ", ")
	if f.From != "" || f.Until != "" {
		when = strings.TrimSpace(when + " " + f.From + " to " + f.Until)
	}
	if f.Reason != "" {
		when += " (" + f.Reason + ")"
	}
	return when
}

// Ends says whether t is within the window, and when the window ends. One that can not be read holds nothing up:
// [Project.Validate] refuses it.
func (f Freeze) Ends(t time.Time) (time.Time, bool) {
	t = t.UTC()
	if len(f.Days) == 0 {
		from, until, err := f.once()
		return until, err == nil && !t.Before(from) && t.Before(until)
	}
	spans, err := f.weekly()
	if err != nil {
		return time.Time{}, false
	}
	monday := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).AddDate(0, 0, -(int(t.Weekday())+6)%7)
	var end time.Time
	for _, week := range []time.Time{monday.AddDate(0, 0, -7), monday} { // one of the week before may last until today
		for _, s := range spans {
			until := week.Add(s.until)
			if !t.Before(week.Add(s.from)) && t.Before(until) && until.After(end) {
				end = until
			}
		}
	}
	return end, !end.IsZero()
}

func (f Freeze) once() (from, until time.Time, err error) {
	if from, err = instant(f.From); err == nil {
		until, err = instant(f.Until)
	}
	if err == nil && !until.After(from) {
		err = fmt.Errorf("it ends at %s, before it begins at %s", f.Until, f.From)
	}
	return from, until, err
}

func instant(s string) (time.Time, error) {
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date like 2026-12-23 and no time like 2026-12-23T16:00:00Z", s)
}

// span of a week, counted from Monday 0:00.
type span struct{ from, until time.Duration }

const (
	day  = 24 * time.Hour
	week = 7 * day
)

var weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// weekly are its spans; that of a Sunday may go on into the week after.
func (f Freeze) weekly() ([]span, error) {
	from, err := timeOfDay(f.From, 0)
	if err != nil {
		return nil, err
	}
	until, err := timeOfDay(f.Until, day)
	if err != nil {
		return nil, err
	}
	if until <= from {
		until += day
	}
	var spans []span
	for _, name := range f.Days {
		i := slices.Index(weekdays, name)
		if i < 0 {
			return nil, fmt.Errorf("%q is no day; there are %s", name, strings.Join(weekdays, ", "))
		}
		start := time.Duration(i) * day
		spans = append(spans, span{start + from, start + until})
	}
	return spans, nil
}

func timeOfDay(s string, missing time.Duration) (time.Duration, error) {
	switch s {
	case "":
		return missing, nil
	case "24:00":
		return day, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day like 16:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// covers reports whether all of a window lies within those of a later gate.
func covers(later []Freeze, f Freeze) bool {
	if len(f.Days) == 0 {
		from, until, err := f.once()
		const steps = 4000 // ten years of days
		for at, n := from, 0; err == nil && at.Before(until); n++ {
			var end time.Time
			for _, l := range later {
				if e, in := l.Ends(at); in && e.After(end) {
					end = e
				}
			}
			if end.IsZero() || n == steps {
				return false
			}
			at = end
		}
		return true
	}
	minutes := func(all ...Freeze) (in [week / time.Minute]bool) {
		for _, one := range all {
			spans, _ := one.weekly()
			for _, s := range spans {
				for m := s.from; m < s.until; m += time.Minute {
					in[(m%week)/time.Minute] = true
				}
			}
		}
		return in
	}
	asked, there := minutes(f), minutes(slices.DeleteFunc(slices.Clone(later), func(l Freeze) bool { return len(l.Days) == 0 })...)
	for m := range asked {
		if asked[m] && !there[m] {
			return false
		}
	}
	return true
}

// Gate is that of the environment at a place of the order, with the conditions of those before it.
func (p Project) Gate(place int) Gate {
	if place < 0 || place >= len(p.Environments) {
		return Gate{}
	}
	g := p.Environments[place].Gate
	own := g.Conditions
	g.Conditions = nil
	for _, e := range p.Environments[:place] {
		g.Conditions = append(g.Conditions, e.Gate.Conditions...)
	}
	g.Conditions = append(g.Conditions, own...)
	return g
}
