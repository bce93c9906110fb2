//go:build linux

package runtimetest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/testreport"
)

// failures are what a report says went wrong; few of them are named.
type failures struct {
	count int
	first []string
}

func (f *failures) add(name, reason string) {
	if f.count++; len(f.first) < mostNamed {
		reason, _, _ = strings.Cut(strings.TrimSpace(reason), "\n")
		name = excerpt.Of(name, 200)
		if reason != "" {
			name += ": " + excerpt.Of(reason, 200)
		}
		f.first = append(f.first, name)
	}
}

func (f *failures) text() string {
	text := strings.Join(f.first, "; ")
	if more := f.count - len(f.first); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// junit fails where a case of the report failed, and where none ran.
func junit(in io.Reader, r *Result) error {
	cases, err := testreport.Read(in, nil)
	if err != nil {
		return fmt.Errorf("its report: %w", err)
	}
	count := map[testreport.Outcome]int{}
	var failed failures
	for _, c := range cases {
		if count[c.Outcome]++; c.Outcome == testreport.Failed {
			failed.add(strings.TrimPrefix(c.Suite+"."+c.Name, "."), c.Reason)
		}
	}
	ran, skipped := count[testreport.Passed]+failed.count, count[testreport.Skipped]
	r.Values["tests"], r.Values["failed"], r.Values["skipped"] = float64(ran), float64(failed.count), float64(skipped)
	r.Reason = fmt.Sprintf("%d tests passed, %d skipped", ran, skipped)
	switch {
	case failed.count > 0:
		return fmt.Errorf("%d of %d tests failed: %s", failed.count, ran, failed.text())
	case ran == 0:
		return fmt.Errorf("no test ran, %d were skipped", skipped)
	}
	return nil
}

// levels of SARIF, the gravest first.
var levels = []string{"error", "warning", "note", "none"}

// sarifTool is a tool, or what extends it, with its rules.
type sarifTool struct {
	Name  string `json:"name"`
	Rules []struct {
		ID      string `json:"id"`
		Default struct {
			Level string `json:"level"`
		} `json:"defaultConfiguration"`
	} `json:"rules"`
}

type sarifLog struct {
	Version string `json:"version"`
	Runs    []struct {
		Tool struct {
			Driver     sarifTool   `json:"driver"`
			Extensions []sarifTool `json:"extensions"`
		} `json:"tool"`
		Invocations []struct {
			Successful *bool `json:"executionSuccessful"`
		} `json:"invocations"`
		Results []struct {
			RuleID string `json:"ruleId"`
			Rule   struct {
				ID    string `json:"id"`
				Index *int   `json:"index"`
				Tool  struct {
					Index *int `json:"index"`
				} `json:"toolComponent"`
			} `json:"rule"`
			Index   *int   `json:"ruleIndex"`
			Level   string `json:"level"`
			Kind    string `json:"kind"`
			State   string `json:"baselineState"`
			Message struct {
				Text string `json:"text"`
			} `json:"message"`
			Suppressions []struct {
				Status string `json:"status"`
			} `json:"suppressions"`
		} `json:"results"`
	} `json:"runs"`
}

// sarif fails where a result of the report is as grave as least, or a tool says that it did not come to its end.
func sarif(in io.Reader, least string, r *Result) error {
	if least == "" {
		least = "warning"
	}
	var report sarifLog
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &report); err != nil {
		return fmt.Errorf("its report is no SARIF: %w", err)
	}
	if !strings.HasPrefix(report.Version, "2.") || len(report.Runs) == 0 {
		return fmt.Errorf("its report is no SARIF 2 with runs: version %q, %d runs", report.Version, len(report.Runs))
	}
	counts := map[string]int{}
	var grave failures
	for _, run := range report.Runs {
		for _, i := range run.Invocations {
			if i.Successful != nil && !*i.Successful {
				return fmt.Errorf("its report says that %s did not come to its end", run.Tool.Driver.Name)
			}
		}
		if run.Results == nil { // by the standard: it did not look
			return fmt.Errorf("its report has no results of %s, not even that there are none", run.Tool.Driver.Name)
		}
		for _, found := range run.Results {
			if found.State == "absent" {
				continue // it was there once
			}
			if found.Kind != "" && found.Kind != "fail" {
				continue // it passed, or nobody can tell
			}
			accepted := false
			for _, s := range found.Suppressions {
				accepted = accepted || s.Status == "" || s.Status == "accepted"
			}
			if accepted {
				continue
			}
			id, level := cmp.Or(found.RuleID, found.Rule.ID), found.Level
			index, tool := cmp.Or(found.Index, found.Rule.Index), run.Tool.Driver
			if of := found.Rule.Tool.Index; of != nil && *of >= 0 && *of < len(run.Tool.Extensions) {
				tool = run.Tool.Extensions[*of]
			}
			for i, rule := range tool.Rules {
				at := index != nil && *index == i
				if level == "" && (at || index == nil && id != "" && rule.ID == id) {
					level = rule.Default.Level
				}
				if id == "" && at {
					id = rule.ID
				}
			}
			if !slices.Contains(levels, level) {
				level = "warning" // as the standard has it
			}
			counts[level]++
			if slices.Index(levels, level) <= slices.Index(levels, least) {
				grave.add(id+" ("+level+")", found.Message.Text)
			}
		}
	}
	for _, level := range levels[:3] {
		r.Values[level] = float64(counts[level])
	}
	r.Reason = fmt.Sprintf("%d errors, %d warnings, %d notes", counts["error"], counts["warning"], counts["note"])
	if grave.count > 0 {
		return fmt.Errorf("%d found: %s", grave.count, grave.text())
	}
	return nil
}
