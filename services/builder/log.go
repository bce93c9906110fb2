package builder

import (
	"context"

	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// notNeeded is why a run of a queue ends before its time.
const notNeeded = "the queue has no use for this run any more: it was stopped"

// log is what one attempt at a run prints, kept for whoever asks the gateway, from the first that a pipeline prints on; it may be several,
// one after the other. Nobody keeps it where the builder has no store for it. What has begun it closes it.
type log struct {
	builder *builder
	context context.Context //nolint:containedctx // of the attempt, not of one pipeline, which may be stopped alone
	run     runlog.Run
	attempt uint64
	writer  *runlog.Writer // nil: nothing was printed
}

func (b *builder) log(ctx context.Context, job *service.Job, kind runlog.Kind) *log {
	return &log{builder: b, context: ctx, attempt: job.Attempt, run: runlog.Run{Project: job.Project.Name, Kind: kind, Key: job.Event.Key}}
}

// Print is the pipeline's.
func (l *log) Print(step string, p []byte) error { return l.open().Print(step, p) }

func (l *log) open() *runlog.Writer {
	if l.writer == nil {
		l.writer = l.builder.options.Logs.Write(l.context, l.run, l.attempt)
	}
	return l.writer
}

// say adds a line that no step printed.
func (l *log) say(text string) {
	if l.builder.options.Logs != nil {
		l.open().Say(text)
	}
}

// close ends the log, for good or until another attempt begins anew. Where there is evidence, that says what became of it.
func (l *log) close(whole bool, evidence *events.Evidence) {
	if l.writer == nil {
		return
	}
	kept := l.writer.Close(whole)
	l.writer = nil
	if kept.Reason != "" {
		l.builder.options.Log("a log is not kept as a whole", "project", l.run.Project, "run", l.run.Key, "reason", kept.Reason, "bytes", kept.Dropped)
	}
	if evidence != nil {
		evidence.Log, evidence.Digest = l.run.Path(), kept.Digest
	}
}

// end ends the log of a run that is over without having come to its end, and says why; also that of a worker which was lost with it.
// Where the bus does not answer it stays as it is.
func (l *log) end(reason string) {
	logs := l.builder.options.Logs
	if logs == nil || l.context.Err() != nil {
		return // another attempt comes
	}
	if l.writer == nil {
		if last, err := logs.Find(l.context, l.run); err != nil || last.Kept != nil {
			return
		}
	}
	l.say(reason)
	l.close(true, nil)
}
