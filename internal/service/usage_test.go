package service

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// A program that is called for its help, or by mistake, does not begin to work.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args          []string
		code          int
		done          bool
		out, complain string
	}{
		{args: []string{"lemnis-planner"}},
		{args: []string{"lemnis-planner", "healthcheck"}},
		{args: []string{"lemnis-planner", "--help"}, done: true, out: "LEMNIS_NATS_URL"},
		{args: []string{"lemnis-planner", "-h"}, done: true, out: "LEMNIS_NATS_URL"},
		{args: []string{"lemnis-planner", "healthchek"}, code: 2, done: true, complain: `"healthchek" is not understood`},
		{args: []string{"lemnis-planner", "--nats", "x"}, code: 2, done: true, complain: `"--nats" is not understood`},
		{args: []string{"lemnis-planner", "healthcheck", "now"}, code: 2, done: true, complain: "is not understood"},
	} {
		var out, complaints strings.Builder
		code, done := Usage("lemnis-planner", c.args, &out, &complaints)
		if code != c.code || done != c.done || !strings.Contains(out.String(), c.out) || !strings.Contains(complaints.String(), c.complain) || (c.out == "") != (out.Len() == 0) {
			t.Errorf("%q: %d, %v, %q, %q", c.args, code, done, out.String(), complaints.String())
		}
	}
}

// The help names what is read for every program, and the guide what any program reads.
func TestEnvironmentIsDocumented(t *testing.T) {
	name := regexp.MustCompile(`LEMNIS_[A-Z_]+`)
	read := map[string]bool{}
	if _, err := ReadEnvironment(func(variable string) string { read[variable] = true; return "" }); err != nil {
		t.Fatal(err)
	}
	for _, variable := range name.FindAllString(environmentHelp, -1) {
		if !read[variable] {
			t.Errorf("the help names %s, which nobody reads", variable)
		}
	}
	guide, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	for variable := range read {
		if !strings.Contains(string(guide), "`"+variable+"`") {
			t.Errorf("docs/operate.md does not say what %s is", variable)
		}
		if variable != "LEMNIS_REGISTRY_URL" && !strings.Contains(environmentHelp, variable+" ") {
			t.Errorf("the help does not say what %s is", variable)
		}
	}
}
