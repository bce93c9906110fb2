package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process uses at a moment; goroutines are -1 where it has none to tell of.
type usage struct {
	at                time.Duration // since the samples began
	memory            float64       // MiB, resident
	goroutines, files float64
}

// series are the samples of one process.
type series struct {
	name   string
	lemnis bool // one of ours; memory of the bus and of Redis holds the stream and what is known of it
	all    []usage
}

// sample asks every process what it uses, again and again.
func (s *Stack) sample(ctx context.Context, sc *Scene, length time.Duration) ([]series, error) {
	var all []series
	var of []*Process
	add := func(p *Process, lemnis bool) {
		if p != nil {
			all, of = append(all, series{name: p.Name, lemnis: lemnis}), append(of, p)
		}
	}
	for _, p := range s.All() {
		add(p, true)
	}
	add(s.Nodes[0].Process, false)
	add(s.Redis, false)
	began := time.Now()
	every := max(min(length/60, 5*time.Second), 500*time.Millisecond)
	for told := 0; time.Since(began) < length; wait(ctx, every) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for i, p := range of {
			u, err := s.usage(ctx, p, all[i].lemnis)
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", p.Name, err, p.tail(1000))
			}
			u.at = time.Since(began)
			all[i].all = append(all[i].all, u)
		}
		if minutes := int(time.Since(began).Minutes()); minutes > told {
			told = minutes
			sc.Tell("%d min", minutes)
		}
	}
	return all, nil
}

func (s *Stack) usage(ctx context.Context, p *Process, lemnis bool) (usage, error) {
	u := usage{goroutines: -1}
	folder := fmt.Sprintf("/proc/%d/", p.PID())
	status, err := os.ReadFile(folder + "status")
	if err != nil {
		return u, fmt.Errorf("it has ended: %w", err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(kib, "kB")), 64)
			if err != nil {
				return u, err
			}
			u.memory = n / 1024
		}
	}
	files, err := os.ReadDir(folder + "fd")
	if err != nil {
		return u, err
	}
	u.files = float64(len(files))
	if !lemnis {
		return u, nil
	}
	page, err := s.ask(ctx, p, "/metrics")
	if err != nil {
		return u, err
	}
	for lines := bufio.NewScanner(strings.NewReader(page)); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			u.goroutines, err = strconv.ParseFloat(n, 64)
			return u, err
		}
	}
	return u, nil
}

// trend compares the first third of what was measured after the warm-up with the last third.
type trend struct {
	first, last, most float64
	slope             float64 // per minute, least squares
	flat              bool
}

func (s series) trend(value func(usage) float64, share, slack float64) trend {
	settled := s.all[len(s.all)/4:] // caches and pools fill up first
	mean := func(of []usage) (sum float64) {
		for _, u := range of {
			sum += value(u)
		}
		return sum / float64(max(len(of), 1))
	}
	third := max(len(settled)/3, 1)
	t := trend{first: mean(settled[:third]), last: mean(settled[len(settled)-third:])}
	var x, y, xx, xy float64
	for _, u := range settled {
		t.most = max(t.most, value(u))
		m := u.at.Minutes()
		x, y, xx, xy = x+m, y+value(u), xx+m*m, xy+m*value(u)
	}
	if n := float64(len(settled)); n*xx-x*x > 0 {
		t.slope = (n*xy - x*y) / (n*xx - x*x)
	}
	t.flat = t.last <= t.first*(1+share)+slack
	return t
}

// flat prints what each process used; false when something of it grew by more than a tenth and what comes and goes.
func flat(out io.Writer, all []series) bool {
	fmt.Fprintln(out, "| process | measure | at first | at last | most | a minute | flat |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|")
	ok := true
	line := func(name, measure string, t trend, judged bool) {
		verdict := "yes"
		switch {
		case !judged:
			verdict = "not judged: it holds the data"
		case !t.flat:
			verdict, ok = "NO", false
		}
		fmt.Fprintf(out, "| %s | %s | %.1f | %.1f | %.1f | %+.2f | %s |\n", name, measure, t.first, t.last, t.most, t.slope, verdict)
	}
	for _, s := range all {
		line(s.name, "memory, MiB", s.trend(func(u usage) float64 { return u.memory }, 0.1, 6), s.lemnis)
		if s.lemnis {
			line(s.name, "goroutines", s.trend(func(u usage) float64 { return u.goroutines }, 0.1, 8), true)
		}
		line(s.name, "file descriptors", s.trend(func(u usage) float64 { return u.files }, 0.1, 5), true)
	}
	return ok
}
