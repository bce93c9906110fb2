//go:build linux

package runtimetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// mostMetrics bounds what is read of a service's metrics, in bytes.
const mostMetrics = 16 << 20

// Counters asks a service for counters, in the text format of Prometheus. One that it does not show is an error: nobody would count it.
func Counters(ctx context.Context, client *http.Client, url string, wanted ...events.Counter) (map[events.Counter]int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("GET %s answers %s", request.URL.Path, response.Status)
	}
	text := &io.LimitedReader{R: response.Body, N: mostMetrics + 1}
	found, err := sums(text, wanted)
	if err == nil && text.N <= 0 { // cut within a number it would be another one
		err = fmt.Errorf("it has more than %d bytes", mostMetrics)
	}
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", request.URL.Path, err)
	}
	return found, nil
}

// sums adds up the series of each counter. Where only series with other labels are shown, it is 0.
func sums(text io.Reader, wanted []events.Counter) (map[events.Counter]int64, error) {
	type series struct {
		name   string
		labels map[string]string
		sum    float64
		shown  bool
	}
	all := make([]series, len(wanted))
	for i, c := range wanted {
		var err error
		if all[i].name, all[i].labels, err = c.Parse(); err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if !slices.ContainsFunc(all, func(s series) bool { return strings.HasPrefix(line, s.name) }) {
			continue
		}
		name, labels, rest, err := events.ParseSeries(line)
		fields := strings.Fields(rest)
		if err != nil || len(fields) == 0 {
			continue // another's
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil || !(value >= 0) || math.IsInf(value, 1) {
			continue
		}
		for i := range all {
			s := &all[i]
			if s.name != name {
				continue
			}
			s.shown = true
			fits := true
			for label, want := range s.labels {
				fits = fits && labels[label] == want
			}
			if fits {
				s.sum += value
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	found, missing := map[events.Counter]int64{}, []string(nil)
	for i, c := range wanted {
		if !all[i].shown {
			missing = append(missing, all[i].name)
		}
		found[c] = int64(math.Min(all[i].sum, 1<<53))
	}
	if len(missing) > 0 {
		return nil, &NotCountedError{missing}
	}
	return found, nil
}

// NotCountedError says that a service does not show some counters.
type NotCountedError struct{ Names []string }

// Error names them.
func (e *NotCountedError) Error() string {
	return fmt.Sprintf("no %s is there", strings.Join(e.Names, ", "))
}

// Metrics are what the service has to count: a guard that nobody counts would guard nothing.
type Metrics struct {
	Counted []events.Metric `json:"counted"`
}

func metrics(ctx context.Context, client *http.Client, instance Instance, test Metrics, r *Result) error {
	var names []string
	for _, m := range test.Counted {
		if _, err := Counters(ctx, client, instance.URL+m.At(), m.Total, m.Bad); err != nil {
			return fmt.Errorf("%s is not counted: %w", m.Name, err)
		}
		names = append(names, m.Name)
	}
	r.Reason = fmt.Sprintf("%s are counted", strings.Join(names, ", "))
	return nil
}
