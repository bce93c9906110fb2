package judge

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/services/deployer/canary"
)

// row is what one version counted in a tick.
type row struct {
	requests, errors int64
	buckets          []int64 // not summed up; nil without latency
}

// tick of a recorded canary.
type tick struct {
	number           int64
	canary, baseline row
	seen             [2]bool // baseline, canary
}

// counts is a recorded canary, its ticks in order.
type counts struct {
	bounds []float64 // seconds
	ticks  []*tick
}

// readCounts reads tick,version,requests,errors and then le_<seconds> columns. The rows may be in any order; a version that
// a tick does not have counted nothing in it.
func readCounts(file string, in io.Reader) (counts, error) {
	t, err := openTable(file, in, []string{"tick", "version", "requests", "errors"})
	if err != nil {
		return counts{}, err
	}
	var c counts
	var columns []string
	infinite := ""
	for i, name := range t.header {
		bound, isBucket := strings.CutPrefix(name, "le_")
		switch {
		case name == "tick", name == "version", name == "requests", name == "errors":
			continue
		case !isBucket:
			return c, t.wrong(i, "unknown column %q; after tick, version, requests and errors come le_<seconds>", name)
		case strings.EqualFold(strings.TrimPrefix(bound, "+"), "inf"):
			infinite = name
			continue
		}
		seconds, err := strconv.ParseFloat(bound, 64)
		if err != nil || !(seconds > 0) {
			return c, t.wrong(i, "the column %q names no bound: le_ and then seconds, above 0", name)
		}
		if n := len(c.bounds); n > 0 && seconds <= c.bounds[n-1] {
			return c, t.wrong(i, "the bound of %q is not above the one before", name)
		}
		c.bounds, columns = append(c.bounds, seconds), append(columns, name)
	}
	if len(c.bounds) > canary.MaxBounds {
		return c, t.wrong(len(t.header)-1, "%d latency buckets; there may be %d", len(c.bounds), canary.MaxBounds)
	}
	byNumber := map[int64]*tick{}
	for {
		if err := t.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return c, err
		}
		number, err := t.count("tick")
		if err != nil {
			return c, err
		}
		isCanary, err := t.version()
		if err != nil {
			return c, err
		}
		at := byNumber[number]
		if at == nil {
			at = &tick{number: number}
			byNumber[number] = at
			c.ticks = append(c.ticks, at)
		}
		side, which := &at.baseline, 0
		if isCanary {
			side, which = &at.canary, 1
		}
		if at.seen[which] {
			return c, t.wrong(t.at["version"], "tick %d has the %s twice", number, t.text("version"))
		}
		at.seen[which] = true
		if *side, err = readRow(t, columns, infinite); err != nil {
			return c, err
		}
	}
	slices.SortFunc(c.ticks, func(a, b *tick) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return c, nil
}

func readRow(t *table, columns []string, infinite string) (r row, err error) {
	if r.requests, err = t.count("requests"); err != nil {
		return r, err
	}
	if r.errors, err = t.count("errors"); err != nil {
		return r, err
	}
	if r.errors > r.requests {
		return r, t.wrong(t.at["errors"], "%d errors of %d requests", r.errors, r.requests)
	}
	if len(columns) == 0 {
		return r, nil
	}
	total := r.requests
	if infinite != "" {
		if total, err = t.count(infinite); err != nil {
			return r, err
		}
		if total > r.requests {
			return r, t.wrong(t.at[infinite], "%s is %d of %d requests", infinite, total, r.requests)
		}
	}
	var before int64
	for _, name := range columns {
		n, err := t.count(name)
		switch {
		case err != nil:
			return r, err
		case n < before:
			return r, t.wrong(t.at[name], "%s is %d, and the bound below it has %d already: buckets are cumulative", name, n, before)
		case n > total:
			return r, t.wrong(t.at[name], "%s is %d of %d requests", name, n, total)
		}
		r.buckets = append(r.buckets, n-before)
		before = n
	}
	r.buckets = append(r.buckets, total-before)
	return r, nil
}
