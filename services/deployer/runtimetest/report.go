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
	Name  string      `json:"name"`
	Rules []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID      string `json:"id"`
	Default struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
}

type sarifLog struct {
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver     sarifTool   `json:"driver"`
		Extensions []sarifTool `json:"extensions"`
	} `json:"tool"`
	Invocations []struct {
		Successful *bool `json:"executionSuccessful"`
	} `json:"invocations"`
	Results []sarifResult `json:"results"`
}

type sarifResult struct {
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
}

// sarifRules are the rules of a run by the tool's place and their id; at anyTool is the first of all that have one.
type sarifRules map[sarifName]sarifRule

type sarifName struct {
	tool int // driver, or that of an extension
	id   string
}

const (
	driver  = -1
	anyTool = -2
)

func (run sarifRun) rules() sarifRules {
	all := sarifRules{}
	for i, tool := range slices.Concat([]sarifTool{run.Tool.Driver}, run.Tool.Extensions) {
		for _, rule := range tool.Rules {
			for _, name := range []sarifName{{driver + i, rule.ID}, {anyTool, rule.ID}} {
				if _, there := all[name]; !there {
					all[name] = rule
				}
			}
		}
	}
	return all
}

// mostParts are those of a rule's id that are tried without, from behind.
const mostParts = 8

// rule is the rule of a result: by its index in the tool that it names, else by its id in that, the driver and the extensions. An
// index that is in none, as −1, which the standard takes where there is none, says nothing, and one of a rule with another id only
// where no rule has the result's. What an id ends in behind "/" may be the result's own.
func (run sarifRun) rule(all sarifRules, of sarifResult) (rule sarifRule) {
	tool, place := run.Tool.Driver, driver
	if named := of.Rule.Tool.Index; named != nil && *named >= 0 && *named < len(run.Tool.Extensions) {
		tool, place = run.Tool.Extensions[*named], *named
	}
	id := cmp.Or(of.RuleID, of.Rule.ID)
	for _, index := range []*int{of.Rule.Index, of.Index} {
		if index != nil && *index >= 0 && *index < len(tool.Rules) {
			if rule = tool.Rules[*index]; id == "" || id == rule.ID || strings.HasPrefix(id, rule.ID+"/") {
				return rule
			}
		}
	}
	for range mostParts {
		for _, name := range []sarifName{{place, id}, {anyTool, id}} {
			if found, ok := all[name]; ok && id != "" {
				return found
			}
		}
		id = id[:max(0, strings.LastIndexByte(id, '/'))]
	}
	return rule
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
		rules := run.rules()
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
			rule := run.rule(rules, found)
			id, level := cmp.Or(found.RuleID, found.Rule.ID, rule.ID), cmp.Or(found.Level, rule.Default.Level)
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
