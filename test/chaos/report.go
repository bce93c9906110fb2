package chaos

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Report renders rows as Markdown.
func Report(w io.Writer, seed uint64, began time.Time, rows []Row) {
	fmt.Fprintf(w, "Seed %d, begun %s, %s in all.\n\n", seed, began.UTC().Format("2006-01-02 15:04 UTC"), took(rows))
	fmt.Fprintln(w, "| fault | what was done | laps | changes | events | lost | twice | other | chains closed | longest publish pause | 99 % of claims answered within | took |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	var all Row
	for _, r := range rows {
		if r.Laps == 0 {
			fmt.Fprintf(w, "| %s | %s | – | – | – | – | – | – | – | – | – | – |\n", r.Fault, r.Done)
			continue
		}
		line(w, r)
		all.Laps, all.Changes, all.Events = all.Laps+r.Laps, all.Changes+r.Changes, all.Events+r.Events
		all.Chains, all.Closed, all.Took = all.Chains+r.Chains, all.Closed+r.Closed, all.Took+r.Took
		all.Findings = append(all.Findings, r.Findings...)
		all.Pause, all.Answer = max(all.Pause, r.Pause), max(all.Answer, r.Answer)
	}
	if len(rows) > 1 {
		all.Fault = "all"
		line(w, all)
	}
	fmt.Fprintln(w)
	for _, r := range rows {
		for _, note := range r.Notes {
			if note != "" {
				fmt.Fprintf(w, "- %s: %s\n", r.Fault, note)
			}
		}
	}
	for _, r := range rows {
		for i, f := range r.Findings {
			if i == 30 {
				fmt.Fprintf(w, "- **%s broken**: … and %d more\n", r.Fault, len(r.Findings)-i)
				break
			}
			fmt.Fprintf(w, "- **%s broken**: %s\n", r.Fault, f)
		}
	}
}

func line(w io.Writer, r Row) {
	lost, twice := r.Count(Lost), r.Count(Twice)
	fmt.Fprintf(w, "| %s | %s | %d | %d | %d | %d | %d | %d | %d of %d | %s | %s | %s |\n", r.Fault, strings.ReplaceAll(r.Done, "|", "/"), r.Laps, r.Changes, r.Events,
		lost, twice, len(r.Findings)-lost-twice, r.Closed, r.Chains, r.Pause.Round(10*time.Millisecond), r.Answer.Round(time.Millisecond), r.Took.Round(time.Second))
}

func took(rows []Row) time.Duration {
	var all time.Duration
	for _, r := range rows {
		all += r.Took
	}
	return all.Round(time.Second)
}
