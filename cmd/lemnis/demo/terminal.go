package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/cmd/lemnis/show"
)

// terminal shows each step as it happens, with the time since the start.
type terminal struct {
	out   io.Writer
	began time.Time
	mu    sync.Mutex
}

// tell is told of steps, and with -1 of what happens in them.
func (t *terminal) tell(step int, text string) {
	if step < 0 {
		t.say("    %s", text)
		return
	}
	if step == 0 {
		t.say("·   %s", text)
		return
	}
	t.say("%d   %s", step, text)
}

func (t *terminal) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// What others wrote (a title, an error) is one line here, without control characters.
	text := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	const longest = 200
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest-1]) + "…"
	}
	fmt.Fprintf(t.out, "%6.1fs  %s\n", time.Since(t.began).Seconds(), text)
}

// table shows what each phase did. How work and waiting are told apart is said at [show.Tally].
func (t *terminal) table(r lap.Result) {
	fmt.Fprintln(t.out)
	w := tabwriter.NewWriter(t.out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "phase\tevents\tin work\tin waiting\t")
	total := 0
	for _, row := range show.Tally(r.Events) {
		fmt.Fprintf(w, "%s\t%d\t%.2f s\t%.2f s\t\n", row.Phase, row.Events, row.Work.Seconds(), row.Wait.Seconds())
		total += row.Events
	}
	fmt.Fprintf(w, "all\t%d\t\t\t\n", total)
	_ = w.Flush() // the terminal is gone; nobody to tell
}

func (t *terminal) close(url string, r lap.Result, kept bool) {
	fmt.Fprintf(t.out, "\nthe lap closed after %.1f s; users sent %d requests, of which %d failed\n", time.Since(t.began).Seconds(), r.Requests, r.Failed)
	if kept {
		fmt.Fprintf(t.out, "walk it: lemnis events trace %s --server %s\n", r.Chain, url)
	}
}
