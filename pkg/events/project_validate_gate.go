package events

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

func (v *validation) gate(at string, g Gate) {
	v.oneOf(at+".tests", g.Tests, "", "passed")
	v.amount(at+".coverage", g.Coverage, 100)
	v.amount(at+".coverage-changed", g.Changed, 100)
	v.count(at+".approvals", g.Approvals, 20)
	v.duration(at+".soak", g.Soak)
	v.oneOf(at+".runtime", g.Runtime, "", "passed")
	v.oneOf(at+".signature", g.Signature, "", "verified")
	for _, s := range slices.Sorted(maps.Keys(g.Vulnerabilities)) {
		field := at + ".vulnerabilities." + string(s)
		if !slices.Contains(Severities(), s) {
			v.add(field, "there is no such severity; there are critical, high, medium, low, unrated")
		} else {
			v.count(field, g.Vulnerabilities[s], 1e6)
		}
	}
	v.licences(at+".licenses", g.Licenses)
	if b := g.Before; b != nil {
		v.count(at+".before.requests", b.Requests, 1e9)
		v.duration(at+".before.p99", b.P99)
		if b.Requests == 0 && b.Errors == nil && b.P99 == 0 {
			v.add(at+".before", "asks nothing; there are requests, errors, p99")
		}
	}
	const mostWindows = 100
	if len(g.Freeze) > mostWindows {
		v.add(at+".freeze", "has %d windows; there may be %d", len(g.Freeze), mostWindows)
	}
	for i, f := range g.Freeze {
		var err error
		if len(f.Days) == 0 {
			_, _, err = f.once()
		} else {
			_, err = f.weekly()
		}
		if err != nil {
			v.add(fmt.Sprintf("%s.freeze[%d]", at, i), "%s", err)
		}
	}
}

func (v *validation) licences(at string, all []string) {
	for i, l := range all {
		if l == "" || strings.ContainsAny(l, " \t\r\n") {
			v.add(fmt.Sprintf("%s[%d]", at, i), "%q is no SPDX identifier", l)
		}
	}
}

// conditions have names of their own, also among those that are inherited. Whoever evaluates the expressions compiles them.
func (v *validation) conditions(at string, before []Environment, all []Condition) {
	const most, longest = 50, 2000
	if len(all) > most {
		v.add(at, "are %d; there may be %d", len(all), most)
	}
	seen := map[string]bool{}
	for i, c := range all {
		field := fmt.Sprintf("%s[%d]", at, i)
		v.name(field+".name", c.Name, seen)
		for _, e := range before {
			if slices.ContainsFunc(e.Gate.Conditions, func(b Condition) bool { return b.Name == c.Name }) {
				v.add(field+".name", "%q is a condition of %s already: later environments have it too, and it can not be replaced", c.Name, e.Name)
			}
		}
		switch text := strings.TrimSpace(c.That); {
		case text == "":
			v.add(field+".that", "is empty; it has to be a CEL expression that is true or false")
		case len(text) > longest:
			v.add(field+".that", "has %d bytes; %d at most", len(text), longest)
		}
	}
}

// firstGate refuses checks that nothing produces evidence for: they look at the environment before.
func (v *validation) firstGate(at string, g Gate) {
	missing := func(asked bool, field string) {
		if asked {
			v.add(at+"."+field, "nothing produces evidence for it: there is no environment before the first")
		}
	}
	missing(g.Soak > 0, "soak")
	missing(g.Runtime != "", "runtime")
	missing(g.Before != nil, "before")
}

// stricter holds a gate to each check of the one before. Conditions need no look: they are inherited. Behind an environment where
// another tool deploys, what users met there and the runtime tests there are not known: asking for them is refused.
func (v *validation) stricter(at string, before Environment, g Gate) {
	b := before.Gate
	if before.Target == OutsideTarget {
		b.Runtime, b.Before = "", nil
		for field, asked := range map[string]bool{"runtime": g.Runtime != "", "before": g.Before != nil} {
			if asked {
				v.add(at+"."+field, "nothing produces evidence for it: another tool deploys to %s before it", before.Name)
			}
		}
	}
	check := func(weaker bool, field, have, want string) {
		if weaker {
			v.add(at+"."+field, "is %s, weaker than the %s of %s before it: a gate has to be at least as strict as the one before", have, want, before.Name)
		}
	}
	none := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	check(b.Tests != "" && g.Tests == "", "tests", none(g.Tests), b.Tests)
	check(g.Coverage < b.Coverage, "coverage", fmt.Sprintf("%g", g.Coverage), fmt.Sprintf("%g", b.Coverage))
	check(g.Changed < b.Changed, "coverage-changed", fmt.Sprintf("%g", g.Changed), fmt.Sprintf("%g", b.Changed))
	check(g.Approvals < b.Approvals, "approvals", fmt.Sprint(g.Approvals), fmt.Sprint(b.Approvals))
	check(g.Soak < b.Soak, "soak", time.Duration(g.Soak).String(), time.Duration(b.Soak).String())
	check(b.Runtime != "" && g.Runtime == "", "runtime", none(g.Runtime), b.Runtime)
	check(b.Signature != "" && g.Signature == "", "signature", none(g.Signature), b.Signature)
	for _, s := range Severities() {
		most, asked := b.Vulnerabilities[s]
		now, still := g.Vulnerabilities[s]
		check(asked && !still, "vulnerabilities."+string(s), "not bounded", fmt.Sprint(most))
		check(asked && still && now > most, "vulnerabilities."+string(s), fmt.Sprint(now), fmt.Sprint(most))
	}
	if len(b.Licenses) > 0 {
		more := slices.DeleteFunc(slices.Clone(g.Licenses), func(l string) bool { return slices.Contains(b.Licenses, l) })
		check(len(g.Licenses) == 0, "licenses", "any licence", strings.Join(b.Licenses, ", "))
		check(len(more) > 0, "licenses", "also "+strings.Join(more, ", "), strings.Join(b.Licenses, ", "))
	}
	if b.Before != nil {
		v.before(g.Before, *b.Before, check)
	}
	for _, f := range b.Freeze {
		check(!covers(g.Freeze, f), "freeze", "open", fmt.Sprintf("freeze on %s", f))
	}
}

func (v *validation) before(now *Before, b Before, check func(weaker bool, field, have, want string)) {
	if now == nil {
		check(true, "before", "not asked for", "check")
		return
	}
	check(now.Least() < b.Least(), "before.requests", fmt.Sprint(now.Least()), fmt.Sprint(b.Least()))
	share := func(p Percent) string { return fmt.Sprintf("%g %%", 100*float64(p)) }
	if b.Errors != nil {
		check(now.Errors == nil, "before.errors", "not bounded", share(*b.Errors))
		if now.Errors != nil {
			check(*now.Errors > *b.Errors, "before.errors", share(*now.Errors), share(*b.Errors))
		}
	}
	if b.P99 > 0 {
		check(now.P99 == 0, "before.p99", "not bounded", time.Duration(b.P99).String())
		check(now.P99 > b.P99, "before.p99", time.Duration(now.P99).String(), time.Duration(b.P99).String())
	}
}
