package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// delivery has every message met twice, late, and not in the order of the aggregates, and compares what comes of it with
// what comes of the same laps when nothing is done to them.
func delivery(ctx context.Context, sc *Scene) (Row, error) {
	laps := pick(sc, 24, 3)
	calm, undisturbed, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 1}, laps: laps, exactly: true, atOnce: 12, limit: 90 * time.Second,
		disturb: func(context.Context, *Stack, *Probe) (string, error) { return "", nil },
	})
	if err != nil {
		return calm, err
	}
	latest := pick(sc, 30*time.Second, 2*time.Second)
	row, disturbed, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 2, Env: func(string, int) []string { return []string{"CHAOS_TWICE=1", "CHAOS_LATEST=" + latest.String()} }},
		laps:    laps, exactly: true, atOnce: 12, limit: pick(sc, 5*time.Minute, time.Minute),
		disturb: func(context.Context, *Stack, *Probe) (string, error) {
			return fmt.Sprintf("every message met twice, 3 of 10 a third time, work asked for twice; out of order between aggregates and up to %s late", latest), nil
		},
	})
	if err != nil {
		return row, err
	}
	for _, f := range calm.Findings {
		row.Findings = append(row.Findings, Finding{f.Rule, "undisturbed: " + f.Text})
	}
	was, is := outcomes(undisturbed), outcomes(disturbed)
	for _, line := range was {
		if !slices.Contains(is, line) {
			row.Findings = append(row.Findings, Finding{Lost, "only without the fault: " + line})
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			row.Findings = append(row.Findings, Finding{Stray, "only with the fault: " + line})
		}
	}
	row.Notes = append(row.Notes, fmt.Sprintf("%d outcomes compared with those of the same laps undisturbed", len(was)))
	row.Took += calm.Took
	return row, nil
}

// outcomes are what each aggregate of the laps came to: its last fact, as far as it does not tell of places and times.
func outcomes(l Ledger) []string {
	last := map[string]string{}
	for _, m := range l.Stream {
		e := m.Event
		if e.Kind != events.Stated || e.Project == probeProject {
			continue
		}
		key, _, _ := strings.Cut(e.Key, "@") // behind it stands a place on the stream
		switch {
		case e.Aggregate == "insight", e.Aggregate == "feedback":
			key = ""
		case e.Aggregate == "item" && strings.HasPrefix(key, insight+"-"): // called after the user of the two who was met first
			key = insight
		}
		last[fmt.Sprintf("%s %s %s/%s", e.Project, e.Phase, e.Aggregate, key)] = e.Type.Short() + " " + saying(e.Content)
	}
	var all []string
	for name, what := range last {
		all = append(all, name+" "+what)
	}
	slices.Sort(all)
	return all
}

// saying is what a fact says beside its type.
func saying(content any) string {
	switch c := content.(type) {
	case events.GateEvaluated:
		return fmt.Sprint(c.Passed)
	case events.PipelineRunFinished:
		return c.Outcome
	case events.BuildFinished:
		return c.Lemnis.Outcome + " " + c.Lemnis.Digest
	case events.CanaryJudged:
		return c.Verdict
	case events.ServicePublished:
		return c.Lemnis.Rollout.Artifact.Digest
	case events.ServiceRolledback:
		return c.Lemnis.Rollout.Artifact.Digest
	case events.DeploymentFailed:
		return c.Step
	case events.MetricsComputed:
		return fmt.Sprintf("%d deployments, %d failed, %d reworked", c.Metrics.Deployments, c.Metrics.Failed, c.Metrics.Rework)
	case events.BacklogRanked:
		items := make([]string, len(c.Places))
		for i, p := range c.Places {
			items[i], _, _ = strings.Cut(p.Item, "-")
		}
		return strings.Join(items, " ")
	}
	return ""
}
