package events

import (
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (v *validation) environments(p Project) {
	seen := map[string]bool{}
	for i, e := range p.Environments {
		at := fmt.Sprintf("environments[%d]", i)
		v.name(at+".name", e.Name, seen)
		v.oneOf(at+".target", e.Target, ProcessTarget, OutsideTarget)
		v.outside(at, e)
		v.limits(at+".limits", e)
		if e.Trial != nil {
			if v.duration(at+".trial", *e.Trial); e.Target == OutsideTarget {
				v.add(at+".trial", "is set, but another tool runs what it deploys")
			}
		}
		v.oneOf(at+".strategy", e.Strategy, "", AllAtOnce, BlueGreenStrategy, CanaryStrategy)
		v.canary(at+".canary", e)
		v.guards(at+".canary.guards", p, e)
		v.blueGreen(at+".blue-green", e)
		v.runtime(at+".runtime", e.Runtime)
		v.gate(at+".gate", e.Gate)
		v.conditions(at+".gate.conditions", p.Environments[:i], e.Gate.Conditions)
		if i == 0 {
			v.firstGate(at+".gate", e.Gate)
		} else {
			v.stricter(at+".gate", p.Environments[i-1], e.Gate)
		}
	}
}

// outside refuses what Lemnis would have to do itself where another tool deploys.
func (v *validation) outside(at string, e Environment) {
	if e.Target != OutsideTarget {
		if e.Outside != nil {
			v.add(at+".outside", "is set, but the target is not outside")
		}
		return
	}
	if e.Strategy != "" && e.Strategy != AllAtOnce {
		v.add(at+".strategy", "is %s, but another tool deploys and moves the users: leave it out", e.Strategy)
	}
	if e.Runtime != nil {
		v.add(at+".runtime", "is set, but what another tool deploys is not tested by Lemnis")
	}
	switch o := e.Outside; {
	case o == nil:
		v.add(at+".outside", "is missing: name the principal that deploys, like {owner: argocd, deadline: 30m}")
	case o.Owner == Builtin || !principal(o.Owner):
		v.add(at+".outside.owner", "%q is no outside principal: write the name of a tool, without blanks, '.', '*', '>' and slashes", o.Owner)
	default:
		v.duration(at+".outside.deadline", o.Deadline)
		if d := time.Duration(o.Deadline); d > 0 && d < time.Second {
			v.add(at+".outside.deadline", "is less than a second; deadlines fire on whole seconds")
		}
	}
}

func (v *validation) limits(at string, e Environment) {
	if e.Limits == nil {
		return
	}
	if e.Target == OutsideTarget {
		v.add(at, "is set, but another tool runs what it deploys")
	}
	if m := e.Limits.Memory; m != 0 && m < 8<<20 {
		v.add(at+".memory", "is %s; no service runs in less than 8MiB", m)
	}
	v.count(at+".processes", e.Limits.Processes, 1_000_000)
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
	v.oneOf(at+".baseline", c.Baseline, "", FreshBaseline)
	v.duration(at+".deadline", c.Deadline)
	v.duration(at+".tick", c.Tick)
	if c.Tick > 0 && c.Deadline > 0 && c.Deadline < c.Tick {
		v.add(at+".deadline", "is shorter than a tick")
	}
}

// mostGuards is how many guards the canary test takes.
const mostGuards = 8

// guards refuses what nothing counts: the proxy counts the requests to the project's features, services count its metrics.
func (v *validation) guards(at string, p Project, e Environment) {
	if e.Canary == nil {
		return
	}
	if n := len(e.Canary.Guards); n > mostGuards {
		v.add(at, "are %d; there may be %d", n, mostGuards)
	}
	for i, name := range e.Canary.Guards {
		field := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !slices.ContainsFunc(p.Features, func(f Feature) bool { return f.Name == name }) && !slices.ContainsFunc(p.Metrics, func(m Metric) bool { return m.Name == name }):
			v.add(field, "nothing counts %q: a guard is one of the project's features or metrics", name)
		case slices.Index(e.Canary.Guards, name) < i:
			v.add(field, "%q is there twice", name)
		}
	}
}

func (v *validation) blueGreen(at string, e Environment) {
	if e.Blue == nil {
		return
	}
	if e.Strategy != BlueGreenStrategy {
		v.add(at, "is set, but the strategy is not blue-green")
	}
	v.duration(at+".keep", e.Blue.Keep)
	if d := time.Duration(e.Blue.Keep); d > 0 && d < time.Second {
		v.add(at+".keep", "is less than a second; deadlines fire on whole seconds")
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
	v.licences(at+".licenses", r.Licenses)
	for i, h := range r.Headers {
		if h == "" || strings.ContainsAny(h, " \t\r\n:,;()<>@\"/[]?={}") {
			v.add(fmt.Sprintf("%s.headers[%d]", at, i), "%q is no name of a header", h)
		}
	}
	for i, fingerprint := range r.Harmless {
		if b, err := hex.DecodeString(fingerprint); err != nil || len(b) != 8 || fingerprint != strings.ToLower(fingerprint) {
			v.add(fmt.Sprintf("%s.harmless[%d]", at, i), "%q is no fingerprint of a key, as the test secrets tells it: 16 digits of hex", fingerprint)
		}
	}
	if r.Contract != "" {
		v.urlPath(at+".contract", r.Contract)
	}
	for i, address := range r.TLS {
		if !isAddress(address) {
			v.add(fmt.Sprintf("%s.tls[%d]", at, i), "%q is no host and no host:port", address)
		}
	}
	v.conditions(at+".policy", nil, r.Policy)
	v.commands(at+".commands", r.Commands)
}

func isAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "443"
	}
	n, err := strconv.Atoi(port)
	return err == nil && n > 0 && n < 1<<16 && host != "" && !strings.ContainsAny(host, " \t\r\n/@:?#")
}

func (v *validation) commands(at string, all []RuntimeCommand) {
	const most, longest = 20, 4000
	if len(all) > most {
		v.add(at, "are %d; there may be %d", len(all), most)
	}
	seen := map[string]bool{}
	for i, c := range all {
		field := fmt.Sprintf("%s[%d]", at, i)
		v.name(field+".name", c.Name, seen)
		v.oneOf(field+".kind", c.Kind, "quality", "compliance", "security")
		switch text := strings.TrimSpace(c.Run); {
		case text == "":
			v.add(field+".run", "is empty; it has to be a command for /bin/sh")
		case len(text) > longest:
			v.add(field+".run", "has %d bytes; %d at most", len(text), longest)
		}
		if (c.JUnit == "") == (c.SARIF == "") {
			v.add(field, "has to say in which file its report is: junit or sarif, one of them")
		}
		for name, report := range map[string]string{"junit": c.JUnit, "sarif": c.SARIF} {
			if report != "" && !filepath.IsLocal(report) {
				v.add(field+"."+name, "%q is no path of a file within the folder that the command runs in", report)
			}
		}
		if v.oneOf(field+".level", c.Level, "", "error", "warning", "note"); c.Level != "" && c.SARIF == "" {
			v.add(field+".level", "is set, but only a report in SARIF has levels")
		}
		v.duration(field+".timeout", c.Timeout)
		if d := time.Duration(c.Timeout); d > time.Hour {
			v.add(field+".timeout", "is %s; it may be an hour", d)
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
