package events

import (
	"fmt"
	"math"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// FieldError says what is wrong with one field of a configuration.
type FieldError struct {
	Field  string // path as in the file: "environments[1].gate.coverage"
	Reason string
}

// Error is "field: reason".
func (e FieldError) Error() string { return e.Field + ": " + e.Reason }

// InvalidProject lists everything that is wrong with a configuration, in the order of its fields.
type InvalidProject []FieldError

// Error joins the fields' errors by "; ".
func (e InvalidProject) Error() string {
	all := make([]string, len(e))
	for i, f := range e {
		all[i] = f.Error()
	}
	return strings.Join(all, "; ")
}

// Validate says what is wrong with the configuration as an [InvalidProject]; nil when it can be
// applied. It looks at nothing but p.
func (p Project) Validate() error {
	v := &validation{}
	if err := ValidProject(p.Name); err != nil {
		v.add("project", "%s", err)
	}
	v.owners(p)
	v.repositories(p)
	v.count("review.approvals", p.Review.Approvals, 20)
	v.quarantine(p.Quarantine)
	v.queue(p.Queue)
	v.environments(p)
	v.objectives(p)
	v.features(p)
	v.metrics(p)
	v.onCall(p)
	v.amount("capacity.points", p.Capacity.Points, 1e6)
	v.duration("capacity.every", p.Capacity.Every)
	if e := time.Duration(p.Capacity.Every); e > 0 && e < time.Second {
		v.add("capacity.every", "is less than a second; deadlines fire on whole seconds")
	}
	v.count("feedback.users", p.Feedback.Users, 1e6)
	v.signing(p.Signing)
	v.webhooks(p.Webhooks)
	v.mappings(p.Mappings)
	if len(v.errors) > 0 {
		return v.errors
	}
	return nil
}

type validation struct{ errors InvalidProject }

func (v *validation) add(field, format string, args ...any) {
	v.errors = append(v.errors, FieldError{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (v *validation) count(field string, n, most int) {
	if n < 0 || n > most {
		v.add(field, "is %d; it may be 0 to %d", n, most)
	}
}

func (v *validation) amount(field string, x, most float64) {
	if math.IsNaN(x) || x < 0 || x > most {
		v.add(field, "is %g; it may be 0 to %g", x, most)
	}
}

func (v *validation) duration(field string, d Duration) {
	if d < 0 {
		v.add(field, "is negative")
	}
}

func (v *validation) oneOf(field, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		v.add(field, "%q is unknown; it may be %s", got, strings.Join(slices.DeleteFunc(slices.Clone(allowed), func(s string) bool { return s == "" }), ", "))
	}
}

// name holds a name to what fits into keys, folders and host names, and to being the only one.
func (v *validation) name(field, name string, seen map[string]bool) {
	ok := len(name) > 0 && len(name) <= 63
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = ok && (alnum || i > 0 && strings.IndexByte("-_.", c) >= 0)
	}
	switch {
	case !ok:
		v.add(field, "%q has to be 1 to 63 of a-z, 0-9, '-', '_' and '.', and begin with a letter or digit", name)
	case seen[name]:
		v.add(field, "%q is there twice", name)
	}
	seen[name] = true
}

// principal reports whether a name may be a principal's: it is a part of subjects.
func principal(name string) bool { return name != "" && !strings.ContainsAny(name, " \t\r\n.*>/\\") }

func (v *validation) quarantine(all []Quarantined) {
	for i, q := range all {
		at := fmt.Sprintf("quarantine[%d]", i)
		if q.Test == "" {
			v.add(at+".test", "is empty: name suite and test, as evidence does")
		}
		if q.Owner == "" {
			v.add(at+".owner", "is empty: somebody has to mend it")
		}
		if _, err := time.Parse(time.DateOnly, q.Until); err != nil {
			v.add(at+".until", "%q is no day like 2026-12-24", q.Until)
		}
	}
}

func (v *validation) queue(q *QueuePolicy) {
	if q == nil {
		return
	}
	v.count("queue.slots", q.Slots, 64)
	for i, lane := range q.Lanes {
		if lane == "." || path.Clean(lane) != lane || path.IsAbs(lane) || strings.HasPrefix(lane, "..") {
			v.add(fmt.Sprintf("queue.lanes[%d]", i), "%q is no folder of a repository, like web or services/api", lane)
		}
	}
}

func (v *validation) owners(p Project) {
	phases := make([]string, 0, len(p.Owners))
	for phase := range p.Owners {
		phases = append(phases, string(phase))
	}
	slices.Sort(phases)
	for _, phase := range phases {
		owner := p.Owners[Phase(phase)]
		switch {
		case !Phase(phase).Valid():
			v.add("owners."+phase, "there is no phase %q; the phases are plan, develop, integrate, deploy, operate, learn", phase)
		case !principal(owner):
			v.add("owners."+phase, "%q is no principal; write %q or the name of an outside tool, without blanks, '.', '*', '>' and slashes", owner, Builtin)
		}
	}
}

func (v *validation) repositories(p Project) {
	seen := map[string]bool{}
	for i, r := range p.Repositories {
		at := fmt.Sprintf("repositories[%d]", i)
		v.name(at+".name", r.Name, seen)
		faults := len(v.errors)
		v.repositoryURL(at+".url", r.URL)
		v.forge(at+".forge", r, len(v.errors) == faults)
		if b := r.Branch; b != "" && (strings.HasPrefix(b, "-") || strings.HasSuffix(b, "/") || strings.Contains(b, "..") || strings.ContainsAny(b, " \t\r\n~^:?*[\\")) {
			v.add(at+".branch", "%q is no name of a branch", b)
		}
		if m := r.Main; m != "" && (strings.HasPrefix(m, "-") || path.IsAbs(m) || strings.HasPrefix(path.Clean(m), "..") || strings.ContainsAny(m, " \t\r\n\\")) {
			v.add(at+".main", "%q is no package within the repository; write it like \"./cmd/api\"", m)
		}
		v.secret(at+".credentials", r.Credentials)
		for j, name := range r.Needs {
			if _, ok := p.Repository(name); !ok || name == r.Name {
				v.add(fmt.Sprintf("%s.needs[%d]", at, j), "%q is no other repository of the project", name)
			}
		}
	}
}

// repositoryURL takes what git takes: a URL, a path, or user@host:path. "--upload-pack=…" is neither.
func (v *validation) repositoryURL(field, s string) {
	switch {
	case s == "":
		v.add(field, "is missing")
		return
	case strings.HasPrefix(s, "-") || strings.Contains(s, "::") || strings.ContainsAny(s, " \t\r\n"):
		v.add(field, "%q is no address of a repository", s)
		return
	case path.IsAbs(s), !strings.Contains(s, "://") && strings.Contains(s, ":"):
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		v.add(field, "is no URL")
	case u.Scheme == "" || !slices.Contains([]string{"https", "http", "ssh", "git", "file"}, u.Scheme):
		v.add(field, "%q has to be an absolute path, or a URL with https, http, ssh, git or file", s)
	case u.User != nil && (u.Scheme != "ssh" || hasPassword(u)):
		v.add(field, "holds credentials, which would be on the stream for ever; write them as credentials: \"secret:<name>\"")
	}
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

func (v *validation) secret(field, s string) {
	if s == "" {
		return
	}
	name, ok := strings.CutPrefix(s, "secret:")
	if !ok || name == "" || strings.ContainsAny(name, "/\\ \t\r\n") || strings.HasPrefix(name, ".") {
		v.add(field, "has to name a secret, like \"secret:git\"; the secret itself never stands in the configuration")
	}
}

// service asks that something builds it, where Lemnis does the building.
func (v *validation) service(field, name string, p Project) {
	if name == "" {
		v.add(field, "is missing")
		return
	}
	if _, ok := p.Repository(name); ok || !p.Runs(Integrate) {
		return
	}
	known := make([]string, len(p.Repositories))
	for i, r := range p.Repositories {
		known[i] = r.Name
	}
	v.add(field, "no repository builds a service %q; the repositories are: %s", name, strings.Join(known, ", "))
}

func (v *validation) objectives(p Project) {
	seen := map[string]bool{}
	for i, o := range p.Objectives {
		at := fmt.Sprintf("objectives[%d]", i)
		v.service(at+".service", o.Service, p)
		if seen[o.Service] {
			v.add(at+".service", "%q is there twice", o.Service)
		}
		seen[o.Service] = true
		if a := float64(o.Availability); math.IsNaN(a) || a <= 0 || a >= 1 {
			v.add(at+".availability", "has to be more than 0%% and less than 100%%: nothing is always up")
		}
	}
}

func (v *validation) features(p Project) {
	seen := map[string]bool{}
	for i, f := range p.Features {
		at := fmt.Sprintf("features[%d]", i)
		v.name(at+".name", f.Name, seen)
		v.service(at+".service", f.Service, p)
		v.urlPath(at+".path", f.Path)
	}
}

func (v *validation) urlPath(field, s string) {
	if u, err := url.Parse(s); err != nil || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || u.Host != "" {
		v.add(field, "%q has to be a path that begins with '/'", s)
	}
}

// mappings looks at all but the expressions, which whoever evaluates them compiles.
func (v *validation) mappings(all []Mapping) {
	const most, longest = 100, 2000
	if len(all) > most {
		v.add("mappings", "are %d; there may be %d", len(all), most)
	}
	for i, m := range all {
		at := fmt.Sprintf("mappings[%d]", i)
		expressions := map[string]string{at + ".when": m.When, at + ".subject": m.Subject}
		for path, text := range m.Fields {
			expressions[at+".fields."+path] = text
		}
		for field, text := range expressions {
			if strings.TrimSpace(text) == "" {
				v.add(field, "is empty; it has to be a CEL expression")
			} else if len(text) > longest {
				v.add(field, "has %d bytes; %d at most", len(text), longest)
			}
		}
		t, err := ParseType(m.Type)
		if err != nil {
			v.add(at+".type", "%s", err)
			continue
		}
		switch entry, _ := Lookup(t); {
		case !entry.Claimable:
			v.add(at+".type", "%s can not be claimed: only a service says it", t.Short())
		case t == TypeOf(FeedbackReceived{}):
			v.add(at+".type", "what users say comes by POST /feedback, which keeps their words apart")
		}
	}
}

func (v *validation) onCall(p Project) {
	seen := map[string]bool{}
	for i, o := range p.OnCall {
		at := fmt.Sprintf("on-call[%d]", i)
		v.name(at+".name", o.Name, seen)
		v.oneOf(at+".rotation", o.Rotation, "", "daily", "weekly")
		if len(o.People) == 0 {
			v.add(at+".people", "names nobody")
		}
		people := map[string]bool{}
		for j, person := range o.People {
			field := fmt.Sprintf("%s.people[%d]", at, j)
			if strings.TrimSpace(person) == "" {
				v.add(field, "is empty")
			} else if people[person] {
				v.add(field, "%q is there twice", person)
			}
			people[person] = true
		}
		v.webhook(at+".webhook", o.Webhook)
	}
}

func (v *validation) webhook(field, s string) {
	if s == "" {
		return
	}
	if strings.HasPrefix(s, "secret:") {
		v.secret(field, s)
		return
	}
	switch u, err := url.Parse(s); {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		v.add(field, "has to be a URL with https or http, or \"secret:<name>\"")
	case u.User != nil:
		v.add(field, "holds credentials, which would be on the stream for ever; write \"secret:<name>\"")
	}
}

// webhooks asks for a secret a sender: without one anybody could speak for it.
func (v *validation) webhooks(all map[WebhookKind]Webhook) {
	kinds := make([]string, 0, len(all))
	for kind := range all {
		kinds = append(kinds, string(kind))
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		field := "webhooks." + kind
		if !slices.Contains(WebhookKinds(), WebhookKind(kind)) {
			v.add(field, "there is no such sender; there are github, gitlab, gitea, forgejo, alertmanager")
			continue
		}
		if all[WebhookKind(kind)].Secret == "" {
			v.add(field+".secret", "is missing; name a secret, like \"secret:%s\"", kind)
			continue
		}
		v.secret(field+".secret", all[WebhookKind(kind)].Secret)
	}
}
