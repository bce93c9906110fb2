package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/pkg/events"
)

// How many logs are read at once: a long one that is searched takes a processor, and one that is followed waits most of the time.
const (
	mostLogs     = 32
	mostFollowed = 256
)

// showLog answers GET /api/v1/logs/{project}/{run}: what the steps of a run printed, as they printed it; of one step with ?step, the
// lines that contain a text with ?grep, and what is still to come with ?follow. An answer that breaks off is not the whole log: the same
// question goes on where it was with ?skip, the bytes that came of it, and ?attempt, as its header said.
func (g *Gateway) showLog(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	run := runlog.Run{Project: r.PathValue("project"), Kind: runlog.Kind(v.Get("kind")), Key: r.PathValue("run")}
	if run.Kind != "" && !slices.Contains(runlog.Kinds, run.Kind) {
		g.fail(w, r, refuse(http.StatusBadRequest, "a log of kind %s: there are %q", quote(string(run.Kind)), runlog.Kinds))
		return
	}
	follow, err := strconv.ParseBool(v.Get("follow"))
	if err != nil && v.Has("follow") {
		g.fail(w, r, refuse(http.StatusBadRequest, "follow=%s: want true or false", quote(v.Get("follow"))))
		return
	}
	attempt, err := number(v, "attempt")
	if err != nil {
		g.fail(w, r, err)
		return
	}
	skip, err := number(v, "skip")
	if err != nil {
		g.fail(w, r, err)
		return
	}
	slots := g.readingLogs
	if follow {
		slots = g.followingLogs
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		g.fail(w, r, refuse(http.StatusServiceUnavailable, "%d logs are being read; try again later", cap(slots)))
		return
	}
	last, err := g.logs.Find(r.Context(), run)
	if errors.Is(err, runlog.ErrNotFound) {
		err = refuse(http.StatusNotFound, "there is no log of run %s of project %s: it has not come to its steps, or its log is older than what is kept",
			quote(run.Key), quote(run.Project))
	} else if err != nil {
		err = away(err)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	if attempt > last.Attempt {
		g.fail(w, r, refuse(http.StatusNotFound, "run %s of project %s has had %d attempts", quote(run.Key), quote(run.Project), last.Attempt))
		return
	}
	if attempt > 0 {
		last.Attempt = attempt
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no")
	h.Set(runlog.AttemptHeader, strconv.FormatUint(last.Attempt, 10))
	if k := last.Kept; k != nil {
		h.Set(runlog.DigestHeader, k.Digest)
		if k.Dropped > 0 {
			h.Set(runlog.DroppedHeader, strconv.FormatInt(k.Dropped, 10))
		}
	}
	if r.Method == http.MethodHead {
		return
	}
	w.WriteHeader(http.StatusOK)
	if err := g.sendLog(r.Context(), w, last, follow, skip, v.Get("step"), v.Get("grep")); err != nil {
		if r.Context().Err() == nil && !errors.Is(err, errStopping) {
			g.log.Warn("a log could not be read to its end", zap.String("project", run.Project), zap.String("run", run.Key), zap.Error(err))
		}
		panic(http.ErrAbortHandler) // the client sees that this is not the end
	}
}

func (g *Gateway) sendLog(ctx context.Context, w http.ResponseWriter, last runlog.Last, follow bool, skip uint64, step, text string) error {
	control := http.NewResponseController(w)
	if follow {
		_ = control.Flush() // there is a log, also where nothing is printed for long
		begin, cancel := context.WithTimeout(ctx, beginTimeout)
		place, err := g.live.wait(begin, func(*events.Event) bool { return false })
		cancel()
		if err != nil {
			return err
		}
		defer g.live.forget(place)
		following, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		go func() {
			select {
			case <-place.items: // the gateway stops
				stop(errStopping)
			case <-following.Done():
			}
		}()
		ctx = following
	}
	filter := runlog.NewFilter(&skipping{w, skip}, step, text)
	err := g.logs.Read(ctx, last, follow, func(step string, piece []byte) error {
		if err := filter.Print(step, piece); err != nil || !follow {
			return err
		}
		return control.Flush()
	})
	if err != nil {
		return err // a line that has begun is not shown: it would not be the same when it is asked for again
	}
	return filter.Close()
}

// number reads a parameter of an address; 0 when it is left out.
func number(v url.Values, name string) (uint64, error) {
	if !v.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseUint(v.Get(name), 10, 63)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "%s=%s: want a number", name, quote(v.Get(name)))
	}
	return n, nil
}

// skipping passes on what is behind the bytes that are left out.
type skipping struct {
	out  io.Writer
	left uint64
}

func (s *skipping) Write(p []byte) (int, error) {
	gone := min(s.left, uint64(len(p)))
	if s.left -= gone; gone == uint64(len(p)) {
		return len(p), nil
	}
	n, err := s.out.Write(p[gone:])
	return int(gone) + n, err
}
