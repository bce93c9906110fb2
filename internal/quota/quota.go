// Package quota is what a project may use of an installation, as its administrator says in a file:
//
//	default: {events-per-minute: 6000, events-per-day: 1000000, registry: 10GiB}
//	projects:
//	  shop: {events-per-day: 5000000, registry: 50GiB}
//
// A project has the default's bounds but for those that it names itself. What neither names is not bounded.
package quota

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/lemnis/lemnis/pkg/events"
)

// Quota is what a project may use; a zero field is no bound.
type Quota struct {
	EventsPerMinute int   `yaml:"events-per-minute"` // events that are said of it, whatever becomes of them
	EventsPerDay    int   `yaml:"events-per-day"`    // from midnight UTC
	Registry        Bytes `yaml:"registry"`          // in the binary repository
}

// Bytes is a size: a number, or one with KiB, MiB, GiB, TiB, KB, MB, GB or TB behind it.
type Bytes int64

var units = []struct {
	name string
	size float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// UnmarshalYAML reads a size.
func (b *Bytes) UnmarshalYAML(text []byte) error {
	s := strings.Trim(strings.TrimSpace(string(text)), `"'`)
	for _, u := range units {
		number, is := strings.CutSuffix(s, u.name)
		if !is {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if n *= u.size; err != nil || n < 0 || n > math.MaxInt64/2 || math.IsNaN(n) {
			break
		}
		*b = Bytes(n)
		return nil
	}
	return fmt.Errorf("%q is no size such as 500MiB or 10GiB", s)
}

// String is the size with the largest unit that it has one of.
func (b Bytes) String() string {
	for _, u := range []int{3, 2, 1, 0} {
		if float64(b) >= units[u].size {
			return strconv.FormatFloat(float64(b)/units[u].size, 'f', 1, 64) + " " + units[u].name
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}

// Quotas are those of an installation.
type Quotas struct {
	Default  Quota            `yaml:"default"`
	Projects map[string]Quota `yaml:"projects"`
}

// Parse reads quotas; the error says the line of what is not understood.
func Parse(text []byte) (Quotas, error) {
	var q Quotas
	if err := yaml.UnmarshalWithOptions(text, &q, yaml.Strict()); err != nil {
		return Quotas{}, err
	}
	if err := q.Default.check("default"); err != nil {
		return Quotas{}, err
	}
	for name, of := range q.Projects {
		if err := events.ValidProject(name); err != nil {
			return Quotas{}, err
		}
		if err := of.check(name); err != nil {
			return Quotas{}, err
		}
	}
	return q, nil
}

func (q Quota) check(whose string) error {
	if q.EventsPerMinute < 0 || q.EventsPerDay < 0 || q.Registry < 0 {
		return fmt.Errorf("%s: a quota is above 0; leave out what is not to be bounded", whose)
	}
	return nil
}

// Of is the quota of a project.
func (q Quotas) Of(project string) Quota {
	of, d := q.Projects[project], q.Default
	if of.EventsPerMinute == 0 {
		of.EventsPerMinute = d.EventsPerMinute
	}
	if of.EventsPerDay == 0 {
		of.EventsPerDay = d.EventsPerDay
	}
	if of.Registry == 0 {
		of.Registry = d.Registry
	}
	return of
}
