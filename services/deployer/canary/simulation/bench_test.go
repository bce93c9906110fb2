package simulation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/lemnis/lemnis/services/deployer/canary"
)

const benchRuns = 2000

// BenchmarkJudge prints the table of the canary test beside models of other tools' rules, in the same simulation, and fails
// where a row is not reached.
func BenchmarkJudge(b *testing.B) {
	for range b.N {
		missed := table(b, Rows(), len(Peers()))
		missed += table(b, HardRows(), 1)
		missed += costs()
		if missed > 0 {
			b.Errorf("%d goals are missed", missed)
		}
		b.ReportMetric(float64(missed), "missed")
	}
}

func shown(t Tally, same bool) string {
	if same {
		return fmt.Sprintf("%.3f", 100*t.Share())
	}
	return fmt.Sprintf("%.1f / %.0f", 100*t.Share(), t.Exposed)
}

func table(b *testing.B, rows []Row, judges int) (missed int) {
	b.Helper()
	peers := Peers()[len(Peers())-judges:]
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%d runs: %% rolled back / mean requests exposed in two hours\t", benchRuns)
	for _, p := range peers {
		fmt.Fprintf(w, "%s\t", p.Name)
	}
	fmt.Fprintln(w, "asked for\t")
	medians := map[string]int{}
	for i, r := range rows {
		fmt.Fprintf(w, "%s\t", r.Name)
		for _, p := range peers {
			runs := benchRuns
			if p.Name == "sequential" {
				runs = max(r.Runs, benchRuns)
			}
			t := Run(uint64(i)+1, runs, r.Scenario, p.New)
			if r.Same && i == 0 {
				medians[p.Name] = t.MedianToPromote
			}
			fmt.Fprintf(w, "%s\t", shown(t, r.Same))
			if p.Name != "sequential" {
				continue
			}
			asked, reached := "-", true
			switch {
			case r.Same && r.Most == 1:
			case r.Same && r.Most > 0:
				asked, reached = fmt.Sprintf("≤ %.0f", 100*r.Most), t.Reaches(r)
			case r.Same:
				asked, reached = fmt.Sprintf("%.2f", 100*r.RolledBack), t.Reaches(r)
			case r.RolledBack > 0:
				asked, reached = fmt.Sprintf("%.1f / %.0f", 100*r.RolledBack, r.Exposed), t.Reaches(r)
			}
			if r.Same && r.Most == 0 && i == 0 {
				asked += fmt.Sprintf("; promoted %.2f ≥ 98.5, median %d ≤ 16 min", 100*t.Promoted(), t.MedianToPromote)
				reached = reached && t.Promoted() >= 0.985 && t.MedianToPromote <= 16
			}
			if !reached {
				missed++
				asked += "  NOT REACHED"
			}
			if r.Same && r.Most < 1 {
				low, high := t.Interval()
				asked += fmt.Sprintf(" (of %d runs: 95 %% interval %.3f to %.3f)", t.Runs, 100*low, 100*high)
			} else if r.Exposed > 0 {
				asked += fmt.Sprintf(" (of %d runs: ± %.0f)", t.Runs, 1.96*t.Error)
			}
			fmt.Fprintf(w, "%s\t", asked)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	if judges > 1 {
		fmt.Println("median minutes to promote the same version:", medians)
	}
	return missed
}

// costs measures one tick of a rollout with everything in it, and how large its state gets.
func costs() (missed int) {
	rng := rand.New(rand.NewPCG(1, 1))
	q := everything(rng, 600)
	body, _ := json.Marshal(q.State)
	w := &world{rng: rng, shares: map[float64][]float64{}}
	tick := fullTick(w, q)
	const n = 20000
	began := time.Now()
	for range n {
		state := q.State.Observe(tick)
		_ = state.Verdict(q.Policy, time.Minute)
		_ = canary.Ramp(state, q.Policy)
	}
	each := time.Since(began) / n
	verdict := func(ok bool) string {
		if ok {
			return ""
		}
		missed++
		return "  NOT REACHED"
	}
	fmt.Printf("judge per tick (observe, verdict, ramp; latency and %d guards): %s, asked for: under 50 µs%s\n", canary.MaxGuards, each, verdict(each < 50*time.Microsecond))
	fmt.Printf("state of a rollout as JSON after 600 ticks: %d bytes, asked for: under 16 KiB%s\n", len(body), verdict(len(body) < 16<<10))
	return missed
}

func fullTick(w *world, q *Sequential) canary.Tick {
	c, b := w.count(600, errors(0.001)), w.count(5400, errors(0.001))
	t := canary.Tick{
		CanaryRequests: c.Requests, CanaryErrors: c.Errors, BaselineRequests: b.Requests, BaselineErrors: b.Errors,
		Weight: 0.1, Span: 7 * time.Second, Bounds: bounds, CanaryBuckets: c.Buckets, BaselineBuckets: b.Buckets,
	}
	for i := range canary.MaxGuards {
		t.Guards = append(t.Guards, canary.Guard{
			Name:   fmt.Sprintf("a guard with a rather long name %d", i),
			Canary: canary.Minute{Requests: c.Requests, Errors: c.Errors}, Baseline: canary.Minute{Requests: b.Requests, Errors: b.Errors},
		})
	}
	return t
}

// everything is a rollout with a known past, latency and all guards after some ticks.
func everything(rng *rand.Rand, ticks int) *Sequential {
	w := &world{rng: rng, shares: map[float64][]float64{}}
	q := &Sequential{}
	var past []Counts
	for range history {
		past = append(past, w.count(perMinute*1000, errors(0.001)))
	}
	q.Past(past)
	for range ticks {
		q.State = q.State.Observe(fullTick(w, q))
	}
	return q
}
