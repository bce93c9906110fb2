package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/pkg/events"
)

// rebuildPoll is how often it is asked how far a rebuild has come.
const rebuildPoll = 250 * time.Millisecond

func newRebuild(f *flags) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "rebuild SERVICE", Short: "Fold again from the stream, beside what is in use, then switch", Args: exactly("SERVICE"),
		Long: "Let a service (planner, builder, deployer, monitor, feedback, gateway), or the owner of a phase, fold every fact again from\n" +
			"the stream while it goes on deciding, compare, take the new folds over, and write its store anew. It says how many\n" +
			"aggregates were not what the stream says: 0 is expected. With the gateway, those are entries of its read models.",
		Example:           "  lemnis rebuild planner\n  lemnis rebuild gateway",
		ValidArgsFunction: cobra.FixedCompletions(rebuildable(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return f.rebuild(ctx, c, args[0])
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Minute, "how long to wait for the outcome; the rebuild goes on without")
	return c
}

func rebuildable() []cobra.Completion {
	names := []cobra.Completion{"planner", "builder", "deployer", "monitor", "feedback", "gateway"}
	for _, p := range events.Phases() {
		names = append(names, string(p))
	}
	return names
}

func (f *flags) rebuild(ctx context.Context, c *cobra.Command, service string) error {
	asked, err := f.client().Rebuild(ctx, service)
	if err != nil {
		return err
	}
	differing := 0
	for _, m := range asked.Models {
		fmt.Fprintf(c.OutOrStdout(), "%s: %d events in %.1f s, %d entries compared, %d differed\n", m.Model, m.Events, m.Seconds, m.Compared, m.Differing)
		differing += m.Differing
	}
	for _, request := range asked.Requests {
		var report events.RebuildReported
		for facts := uint64(0); !report.Finished; {
			var there bool
			if report, there, err = f.client().RebuildReport(ctx, request.ID, request.Sequence, request.Phase); err != nil {
				return err
			}
			if there && !report.Finished && report.Facts != facts {
				facts = report.Facts
				fmt.Fprintf(c.ErrOrStderr(), "%s: %d facts so far, %.1f s\n", request.Phase, report.Facts, report.Seconds)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the owner of %s has not reported the outcome; it may have changed meanwhile: ask again, or look under /api/v1/rebuilds/%s", request.Phase, request.ID)
			case <-time.After(rebuildPoll):
			}
		}
		if report.Failed != "" {
			return fmt.Errorf("%s was not rebuilt: %s", request.Phase, report.Failed)
		}
		fmt.Fprintf(c.OutOrStdout(), "%s: %d facts in %.1f s, %d aggregates compared, %d differed\n", request.Phase, report.Facts, report.Seconds, report.Aggregates, report.Differing)
		for _, what := range report.Differences {
			fmt.Fprintf(c.OutOrStdout(), "  %s was not what the stream says\n", what)
		}
		differing += report.Differing
	}
	if differing > 0 {
		return &exitError{code: codeDiffering, err: fmt.Errorf("%d differed from what the stream says; they are mended, but the reason is to be found", differing)}
	}
	return nil
}

// codeDiffering is the exit code of a rebuild that found something wrong.
const codeDiffering = 3
