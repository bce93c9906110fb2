//go:build linux

package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// get reads the whole answer and returns its headers and length; any status but 2xx is an error.
func get(ctx context.Context, client *http.Client, url string) (http.Header, int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("GET %s answers %s", request.URL.Path, response.Status)
	}
	return response.Header, n, err
}

func smoke(ctx context.Context, client *http.Client, instance Instance, test Smoke, r *Result) error {
	if len(test.Paths) == 0 {
		return errors.New("no path to ask")
	}
	var failures []error
	for _, path := range test.Paths {
		if _, _, err := get(ctx, client, instance.URL+path); err != nil {
			failures = append(failures, err)
		}
	}
	r.Values["paths"], r.Values["failed"] = float64(len(test.Paths)), float64(len(failures))
	r.Reason = fmt.Sprintf("%s answered 2xx", strings.Join(test.Paths, ", "))
	return errors.Join(failures...)
}

func latency(ctx context.Context, client *http.Client, instance Instance, test Latency, r *Result) error {
	if test.Requests <= 0 {
		test.Requests = 200
	}
	if test.Concurrent <= 0 {
		test.Concurrent = 4
	}
	url := instance.URL + test.Path
	for range test.Concurrent { // the first requests of a new process say little; a failure shows again below
		_, _, _ = get(ctx, client, url)
	}
	took := make([]time.Duration, test.Requests)
	var next, failed atomic.Int64
	var first error
	var once sync.Once
	var workers sync.WaitGroup
	for range test.Concurrent {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(test.Requests); i = next.Add(1) - 1 {
				start := time.Now()
				if _, _, err := get(ctx, client, url); err != nil {
					failed.Add(1)
					once.Do(func() { first = err })
				}
				took[i] = time.Since(start)
			}
		})
	}
	workers.Wait()
	slices.Sort(took)
	p50, p99 := percentile(took, 0.5), percentile(took, 0.99)
	r.Values["requests"], r.Values["failed"] = float64(test.Requests), float64(failed.Load())
	r.Values["p50"], r.Values["p99"] = p50.Seconds(), p99.Seconds()
	r.Reason = fmt.Sprintf("%d requests: p50 %s, p99 %s", test.Requests, p50.Round(time.Microsecond), p99.Round(time.Microsecond))
	if first != nil {
		return fmt.Errorf("%d of %d requests failed, first: %w", failed.Load(), test.Requests, first)
	}
	var over []error
	if test.P50 > 0 && p50 > test.P50 {
		over = append(over, fmt.Errorf("p50 is %s, above %s", p50, test.P50))
	}
	if test.P99 > 0 && p99 > test.P99 {
		over = append(over, fmt.Errorf("p99 is %s, above %s", p99, test.P99))
	}
	return errors.Join(over...)
}

// percentile of sorted times, by the nearest rank.
func percentile(sorted []time.Duration, share float64) time.Duration {
	return sorted[max(int(math.Ceil(share*float64(len(sorted))))-1, 0)]
}

func headers(ctx context.Context, client *http.Client, instance Instance, test Headers, r *Result) error {
	if len(test.Paths) == 0 {
		return errors.New("no path to ask")
	}
	var problems []error
	for _, path := range test.Paths {
		header, length, err := get(ctx, client, instance.URL+path)
		if header == nil {
			problems = append(problems, err)
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(test.Require)) {
			if length == 0 && strings.EqualFold(name, "Content-Type") {
				continue // no content has no type
			}
			want, got := test.Require[name], header.Get(name)
			if got == "" {
				problems = append(problems, fmt.Errorf("%s: no %s", path, name))
			} else if want != "" && !strings.EqualFold(want, got) {
				problems = append(problems, fmt.Errorf("%s: %s is %q, not %q", path, name, got, want))
			}
		}
		for _, name := range test.NoVersion {
			if got := header.Get(name); strings.ContainsAny(got, "0123456789") {
				problems = append(problems, fmt.Errorf("%s: %s tells a version: %q", path, name, got))
			}
		}
	}
	r.Values["problems"] = float64(len(problems))
	r.Reason = fmt.Sprintf("the headers of %s are as required", strings.Join(test.Paths, ", "))
	return errors.Join(problems...)
}
