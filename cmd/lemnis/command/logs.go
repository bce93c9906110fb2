package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/pkg/events"
)

func newLogs(f *flags) *cobra.Command {
	var q api.LogQuery
	c := &cobra.Command{
		Use: "logs RUN", Short: "Show what the steps of a pipeline run printed", Args: exactly("RUN"),
		Long: "Show what the steps of a pipeline run printed, as they printed it, with secrets masked. RUN is the key of the run, CHANGE#ROUND, or\n" +
			"REPOSITORY@NUMBER where the project has a queue: `lemnis events tail --from 0 --type pipelinerun.started` names it, and the evidence\n" +
			"of an artifact does. A log is kept for a while, not for ever.",
		Example: "  lemnis logs 'c1#1' --project shop\n" +
			"  lemnis logs api@12 --step test --follow\n" +
			"  lemnis logs 'c1#1' --grep FAIL",
		RunE: func(c *cobra.Command, args []string) error {
			project, err := f.needProject()
			if err != nil {
				return err
			}
			if q.Kind != "" && !slices.Contains(runlog.Kinds, runlog.Kind(q.Kind)) {
				return usage("--kind %q: there are %s and %s", q.Kind, runlog.Pipeline, runlog.Build)
			}
			log, dropped, err := f.client().Log(c.Context(), project, args[0], q)
			if answer := (*api.Error)(nil); errors.As(err, &answer) && answer.Status == http.StatusNotFound {
				return fmt.Errorf("%w%s", err, f.runsThere(c.Context()))
			}
			if err != nil {
				return err
			}
			defer func() { _ = log.Close() }()
			shown, err := io.Copy(c.OutOrStdout(), log)
			switch {
			case c.Context().Err() != nil && q.Follow:
				return nil // the one who followed has seen enough
			case err != nil:
				return fmt.Errorf("the log breaks off here, it has more: %w", err)
			case dropped > 0:
				fmt.Fprintf(c.ErrOrStderr(), "lemnis: this log was cut off: %d bytes of it are not kept\n", dropped)
			case shown == 0 && q.Step != "" && q.Text == "":
				fmt.Fprintf(c.ErrOrStderr(), "lemnis: the run has no step %q, or it printed nothing\n", q.Step)
			}
			return nil
		},
	}
	c.Flags().StringVar(&q.Step, "step", "", "only what this step printed")
	c.Flags().StringVar(&q.Text, "grep", "", "only lines that contain this text")
	c.Flags().StringVar(&q.Kind, "kind", "", "pipeline or build: of what was packaged without a run of a change; without it the first that there is")
	c.Flags().BoolVar(&q.Follow, "follow", false, "also what is still to come, until the run ends or Ctrl-C")
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 || f.project == "" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f.latestRuns(c.Context()), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{string(runlog.Pipeline), string(runlog.Build)}, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
	return c
}

// runsThere names some runs, for whoever has named none of them; empty when there are none.
func (f *flags) runsThere(ctx context.Context) string {
	runs := f.latestRuns(ctx)
	for i, run := range runs {
		runs[i], _, _ = strings.Cut(run, "\t") // without its description
	}
	if len(runs) == 0 {
		return ""
	}
	return "; the latest runs are " + strings.Join(runs[:min(len(runs), 5)], ", ")
}

const mostCompleted = 50

// latestRuns offers the runs of the project that began last, the last one first, as long as logs are kept. A gateway that does not answer offers none.
func (f *flags) latestRuns(ctx context.Context) []cobra.Completion {
	started, err := f.client().Events(ctx, api.Query{Project: f.project, Type: events.TypeOf(events.PipelineRunStarted{}).Short(), Since: time.Now().Add(-natsd.LogsAge)})
	if err != nil {
		return nil
	}
	var runs []cobra.Completion
	for _, e := range slices.Backward(started) {
		if c, is := e.Content.(events.PipelineRunStarted); is && e.Kind == events.Stated && len(runs) < mostCompleted {
			runs = append(runs, cobra.CompletionWithDesc(e.Key, cmp.Or(c.Lemnis.Merge.Title, c.Lemnis.Merge.Branch)))
		}
	}
	return runs
}
