package events

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Metric is what a service counts itself and shows in the text format of Prometheus: Bad among Total.
type Metric struct {
	Name    string  `json:"name"`
	Service string  `json:"service"`
	Path    string  `json:"path,omitempty"` // default /metrics
	Total   Counter `json:"total"`
	Bad     Counter `json:"bad"`
}

// At is the path where the service shows it.
func (m Metric) At() string {
	if m.Path == "" {
		return "/metrics"
	}
	return m.Path
}

// Counter names a counter, and labels that its series have to have: payments_total{outcome="failed"}. It is the sum of them.
type Counter string

// Parse reads the name, and the labels, nil where there are none.
func (c Counter) Parse() (name string, labels map[string]string, err error) {
	name, labels, rest, err := ParseSeries(string(c))
	if err == nil && rest != "" {
		err = fmt.Errorf("%q is behind it", rest)
	}
	return name, labels, err
}

// ParseSeries reads a counter's name and labels at the beginning of a line; rest is what is behind them.
func ParseSeries(line string) (name string, labels map[string]string, rest string, err error) {
	if name, rest = word(line, true); name == "" {
		return "", nil, "", errors.New("no name of a counter, like payments_total")
	}
	if !strings.HasPrefix(rest, "{") {
		return name, nil, rest, nil
	}
	labels = map[string]string{}
	for rest = strings.TrimLeft(rest[1:], " \t"); !strings.HasPrefix(rest, "}"); {
		var label string
		label, rest = word(rest, false)
		value, ok := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "=")
		if label == "" || !ok {
			return "", nil, "", errors.New(`no label, like outcome="failed"`)
		}
		value = strings.TrimLeft(value, " \t")
		quoted, err := strconv.QuotedPrefix(value)
		if err == nil && quoted[0] == '"' {
			labels[label], err = strconv.Unquote(quoted)
		}
		if err != nil || quoted[0] != '"' {
			return "", nil, "", fmt.Errorf("the value of %s has to be in quotes", label)
		}
		rest = strings.TrimLeft(value[len(quoted):], " \t")
		if next, more := strings.CutPrefix(rest, ","); more {
			rest = strings.TrimLeft(next, " \t")
		} else if !strings.HasPrefix(rest, "}") {
			return "", nil, "", errors.New("the labels have no end")
		}
	}
	return name, labels, rest[1:], nil
}

func word(s string, colons bool) (first, rest string) {
	n := 0
	for n < len(s) && (s[n] == '_' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || n > 0 && s[n] >= '0' && s[n] <= '9' || colons && s[n] == ':') {
		n++
	}
	return s[:n], s[n:]
}

func (v *validation) metrics(p Project) {
	seen := map[string]bool{}
	for _, f := range p.Features {
		seen[f.Name] = true // guards name either
	}
	for i, m := range p.Metrics {
		at := fmt.Sprintf("metrics[%d]", i)
		v.name(at+".name", m.Name, seen)
		v.service(at+".service", m.Service, p)
		if m.Path != "" {
			v.urlPath(at+".path", m.Path)
		}
		for field, c := range map[string]Counter{".total": m.Total, ".bad": m.Bad} {
			if _, _, err := c.Parse(); err != nil {
				v.add(at+field, "%q is no counter: %v", string(c), err)
			}
		}
	}
}
