package events

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

func (v *validation) environments(p Project) {
	seen := map[string]bool{}
	for i, e := range p.Environments {
		at := fmt.Sprintf("environments[%d]", i)
		v.name(at+".name", e.Name, seen)
		v.oneOf(at+".target", e.Target, "process")
		v.oneOf(at+".strategy", e.Strategy, "", "all-at-once", "canary")
		v.canary(at+".canary", e)
		v.runtime(at+".runtime", e.Runtime)
		v.gate(at+".gate", e.Gate)
		if i == 0 {
			v.firstGate(at+".gate", e.Gate)
		} else {
			v.stricter(at+".gate", p.Environments[i-1], e.Gate)
		}
	}
}

func (v *validation) canary(at string, e Environment) {
	c := e.Canary
	if c == nil {
		return
	}
	if e.Strategy != "canary" {
		v.add(at, "is set, but the strategy is not canary")
	}
	if math.IsNaN(c.Objective) || c.Objective < 0 || c.Objective >= 1 {
		v.add(at+".objective", "is %g; it may be 0 (the default) to less than 1", c.Objective)
	}
	if t := c.Tolerance; t != nil && !(*t >= 0 && *t <= 10) {
		v.add(at+".tolerance", "is %g; it may be 0 to 10", *t)
	}
	v.duration(at+".deadline", c.Deadline)
	v.duration(at+".tick", c.Tick)
	if c.Tick > 0 && c.Deadline > 0 && c.Deadline < c.Tick {
		v.add(at+".deadline", "is shorter than a tick")
	}
}

func (v *validation) runtime(at string, r *RuntimeTests) {
	if r == nil {
		return
	}
	for i, p := range r.Paths {
		v.urlPath(fmt.Sprintf("%s.paths[%d]", at, i), p)
	}
	v.duration(at+".p99", r.P99)
	v.count(at+".requests", r.Requests, 100_000)
	for i, l := range r.Licenses {
		if l == "" || strings.ContainsAny(l, " \t\r\n") {
			v.add(fmt.Sprintf("%s.licenses[%d]", at, i), "%q is no SPDX identifier", l)
		}
	}
	for i, h := range r.Headers {
		if h == "" || strings.ContainsAny(h, " \t\r\n:,;()<>@\"/[]?={}") {
			v.add(fmt.Sprintf("%s.headers[%d]", at, i), "%q is no name of a header", h)
		}
	}
}

func (v *validation) gate(at string, g Gate) {
	v.oneOf(at+".tests", g.Tests, "", "passed")
	v.amount(at+".coverage", g.Coverage, 100)
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
}

func (v *validation) signing(s *Signing) {
	if s == nil {
		return
	}
	v.secret("signing.key", s.Key)
	if len(s.Trusted) == 0 {
		v.add("signing.trusted", "names no key: with a key of your own, name the public half, like \"secret:signing.pub\"")
	}
	for i, name := range s.Trusted {
		field := fmt.Sprintf("signing.trusted[%d]", i)
		if name == "" {
			v.add(field, "is empty")
		}
		v.secret(field, name)
	}
}

// firstGate refuses checks that nothing produces evidence for: they look at the environment before.
func (v *validation) firstGate(at string, g Gate) {
	if g.Soak > 0 {
		v.add(at+".soak", "nothing produces evidence for it: there is no environment before the first")
	}
	if g.Runtime != "" {
		v.add(at+".runtime", "nothing produces evidence for it: there is no environment before the first")
	}
}

// stricter holds a gate to each check of the one before.
func (v *validation) stricter(at string, before Environment, g Gate) {
	b := before.Gate
	weaker := func(field, have, want string) {
		v.add(at+"."+field, "is %s, weaker than the %s of %s before it: a gate has to be at least as strict as the one before", have, want, before.Name)
	}
	none := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	if b.Tests != "" && g.Tests == "" {
		weaker("tests", none(g.Tests), b.Tests)
	}
	if g.Coverage < b.Coverage {
		weaker("coverage", fmt.Sprintf("%g", g.Coverage), fmt.Sprintf("%g", b.Coverage))
	}
	if g.Approvals < b.Approvals {
		weaker("approvals", fmt.Sprint(g.Approvals), fmt.Sprint(b.Approvals))
	}
	if g.Soak < b.Soak {
		weaker("soak", time.Duration(g.Soak).String(), time.Duration(b.Soak).String())
	}
	if b.Signature != "" && g.Signature == "" {
		weaker("signature", none(g.Signature), b.Signature)
	}
	for _, s := range Severities() {
		most, asked := b.Vulnerabilities[s]
		switch now, still := g.Vulnerabilities[s]; {
		case asked && !still:
			weaker("vulnerabilities."+string(s), "not bounded", fmt.Sprint(most))
		case asked && now > most:
			weaker("vulnerabilities."+string(s), fmt.Sprint(now), fmt.Sprint(most))
		}
	}
	if b.Runtime != "" && g.Runtime == "" {
		weaker("runtime", none(g.Runtime), b.Runtime)
	}
}
