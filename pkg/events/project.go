package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Builtin is the owner of a phase that Lemnis's own service does.
const Builtin = "builtin"

// Project is the configuration of one project, as it is applied and stated.
type Project struct {
	Name         string           `json:"project"`
	Owners       map[Phase]string `json:"owners,omitempty"` // builtin, or the principal of an outside tool
	Repositories []RepositoryRef  `json:"repositories,omitempty"`
	Review       ReviewPolicy     `json:"review"`
	Environments []Environment    `json:"environments,omitempty"` // in order
	Objectives   []Objective      `json:"objectives,omitempty"`
	Features     []Feature        `json:"features,omitempty"`
	Metrics      []Metric         `json:"metrics,omitempty"`
	OnCall       []OnCall         `json:"on-call,omitempty"`
	Capacity     Capacity         `json:"capacity"`
	Feedback     FeedbackPolicy   `json:"feedback"`

	Webhooks   map[WebhookKind]Webhook `json:"webhooks,omitempty"`   // that the gateway takes, by sender
	Signing    *Signing                `json:"signing,omitempty"`    // nil: with a key that the builder makes
	Quarantine []Quarantined           `json:"quarantine,omitempty"` // tests whose failures do not count for a while
	Queue      *QueuePolicy            `json:"queue,omitempty"`      // nil: changes are tested one at a time
	Mappings   []Mapping               `json:"mappings,omitempty"`   // of CloudEvents that are no CDEvents; the first that takes an event counts

	// Revision counts the accepted configurations; 0 is the default one. It is not part of the file.
	Revision uint64 `json:"-"`
}

// Mapping makes a claim of a CloudEvent that is no CDEvent. Its expressions are CEL over the event's id, source, type,
// subject, time, extensions and data.
type Mapping struct {
	When    string            `json:"when"`             // condition
	Type    string            `json:"type"`             // of the claim, short or in full
	Subject string            `json:"subject"`          // makes the id of what the claim is about
	Chain   string            `json:"chain,omitempty"`  // makes the id of the turn of the loop; a turn of its own without it
	Fields  map[string]string `json:"fields,omitempty"` // makes the fields of the content, by their path
}

// Signing says what artifacts are signed with, and whose signatures count.
type Signing struct {
	Key     string   `json:"key,omitempty"` // "secret:<name>" of a private key: PEM, Ed25519 or ECDSA over P-256; a key is made when it is empty
	Trusted []string `json:"trusted"`       // "secret:<name>" each of a public key, PEM
}

// RepositoryRef is a repository of the project. Its name is that of the service it builds.
type RepositoryRef struct {
	Name        string `json:"name"`
	URL         string `json:"url"`
	Branch      string `json:"branch,omitempty"` // master copy; "main" when empty
	Main        string `json:"main,omitempty"`   // package that becomes the executable; found when empty
	Credentials string `json:"credentials,omitempty"`
	// Needs are services that this one calls. What came to both of them together goes back together.
	Needs []string `json:"needs,omitempty"`
	// Forge is told what becomes of changes; nil: nobody is.
	Forge *Forge `json:"forge,omitempty"`
}

// Quarantined is a test whose failures do not count until a day, since somebody mends it.
type Quarantined struct {
	Test  string `json:"test"`  // suite and name, as evidence names it: example.org/shop/web.TestOnce
	Owner string `json:"owner"` // who mends it
	Until string `json:"until"` // the first day on which it counts again, in UTC: 2026-12-24
}

// Holds reports whether the test is in quarantine at a time.
func (q Quarantined) Holds(at time.Time) bool {
	until, err := time.Parse(time.DateOnly, q.Until)
	return err == nil && at.Before(until)
}

// QueuePolicy says how changes wait to be merged.
type QueuePolicy struct {
	Slots int      `json:"slots,omitempty"` // trains of changes that are tested at once, of each repository; 1 when zero: each change alone, on the master copy
	Lanes []string `json:"lanes,omitempty"` // folders whose changes touch nothing else, where no Go package says what they touch
}

// QueueSlots is how many runs a repository's queue plans at once; 0: it plans nothing.
func (p Project) QueueSlots() int {
	if p.Queue == nil || p.Queue.Slots < 2 {
		return 0
	}
	return p.Queue.Slots
}

// ReviewPolicy says what a change needs before it may be integrated.
type ReviewPolicy struct {
	Approvals int `json:"approvals"` // by others than the author
}

// Environment is a place where artifacts run, behind a gate.
type Environment struct {
	Name     string        `json:"name"`
	Target   string        `json:"target"`             // process, outside
	Strategy string        `json:"strategy,omitempty"` // all-at-once (default), blue-green, canary
	Gate     Gate          `json:"gate"`
	Canary   *CanaryPolicy `json:"canary,omitempty"`
	Blue     *BlueGreen    `json:"blue-green,omitempty"`
	Runtime  *RuntimeTests `json:"runtime,omitempty"`
	Outside  *Outside      `json:"outside,omitempty"` // of the target outside
	Limits   *Limits       `json:"limits,omitempty"`  // of the target process
	Trial    *Duration     `json:"trial,omitempty"`   // how long after it serves all users a version that does not stay up goes back; default 1h, 0s never
}

// OnTrial is how long after it serves all users a version that does not stay up is taken back.
func (e Environment) OnTrial() time.Duration {
	if e.Trial == nil {
		return time.Hour
	}
	return time.Duration(*e.Trial)
}

// Limits bound one process of a service with all that it starts; zero fields bound nothing.
type Limits struct {
	Memory    Bytes `json:"memory,omitempty"`
	Processes int   `json:"processes,omitempty"`
}

// The targets of an environment.
const (
	ProcessTarget = "process" // of Lemnis, on its machine
	OutsideTarget = "outside" // another tool deploys
)

// Outside says who deploys where Lemnis does not, and until when.
type Outside struct {
	Owner    string   `json:"owner"`              // principal whose service.deployed counts
	Deadline Duration `json:"deadline,omitempty"` // from the moment it is asked; default 30m
}

// DefaultOutsideDeadline is how long an outside tool may take where the project does not say.
const DefaultOutsideDeadline = 30 * time.Minute

// The strategies of an environment.
const (
	AllAtOnce         = "all-at-once"
	BlueGreenStrategy = "blue-green"
	CanaryStrategy    = "canary"
)

// FreshBaseline is the baseline that is started with the canary.
const FreshBaseline = "fresh"

// BlueGreen says how long the version of before runs on without users, to go back to at once.
type BlueGreen struct {
	Keep Duration `json:"keep,omitempty"` // default 10m
}

// Keeps is how long the version of before runs on.
func (e Environment) Keeps() time.Duration {
	if e.Blue == nil || e.Blue.Keep <= 0 {
		return 10 * time.Minute
	}
	return time.Duration(e.Blue.Keep)
}

// CanaryPolicy bounds a canary; zero fields take the default.
type CanaryPolicy struct {
	Objective float64  `json:"objective,omitempty"` // availability, 0 to 1; default 0.999
	Deadline  Duration `json:"deadline,omitempty"`  // default 60m
	Tick      Duration `json:"tick,omitempty"`      // default 1s
	Tolerance *float64 `json:"tolerance,omitempty"` // how much slower it may be, as a share; latency is not judged without
	Guards    []string `json:"guards,omitempty"`    // features whose requests may not fail more often either, and metrics whose bad ones may not get more frequent
	Baseline  string   `json:"baseline,omitempty"`  // "fresh": another process of the version before is started with it; else what serves
}

// RuntimeTests bounds the tests that run in an environment; zero fields take the default.
type RuntimeTests struct {
	Paths    []string `json:"paths,omitempty"`    // have to answer 2xx; default /healthz
	P99      Duration `json:"p99,omitempty"`      // of the latency test; default 2s, 1s in the second environment, 500ms in later ones
	Requests int      `json:"requests,omitempty"` // of the latency test; default 100, 200, 400
	Licenses []string `json:"licenses,omitempty"` // SPDX ids that modules may have; default: the permissive ones
	Headers  []string `json:"headers,omitempty"`  // response headers that have to be there

	Harmless []string         `json:"harmless,omitempty"` // fingerprints of keys in the file that runs that open nothing
	Contract string           `json:"contract,omitempty"` // path of the OpenAPI document; default /openapi.json where it serves one
	TLS      []string         `json:"tls,omitempty"`      // host or host:port where users reach it by TLS
	Policy   []Condition      `json:"policy,omitempty"`   // what the configuration has to be
	Commands []RuntimeCommand `json:"commands,omitempty"` // tests of the project's own
}

// RuntimeCommand is a test of the project's own, run beside the deployer.
type RuntimeCommand struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"`              // quality, compliance, security
	Run     string   `json:"run"`               // by /bin/sh, in a folder of its own, with URL, PORT, ARTIFACT, DIGEST
	JUnit   string   `json:"junit,omitempty"`   // its report, in the folder; this or the next
	SARIF   string   `json:"sarif,omitempty"`   // its report, in the folder
	Level   string   `json:"level,omitempty"`   // of SARIF, the least that fails it: error, warning (default), note
	Timeout Duration `json:"timeout,omitempty"` // default 5m
}

// Objective is what the users of a service may expect.
type Objective struct {
	Service      string  `json:"service"`
	Availability Percent `json:"availability,omitempty"`
}

// Feature is a part of a service that users know by name.
type Feature struct {
	Name    string `json:"name"`
	Service string `json:"service"`
	Path    string `json:"path"` // prefix of its URLs; probed as it stands
}

// OnCall is a rota; whoever is on duty is told of incidents.
type OnCall struct {
	Name     string   `json:"name"`
	Rotation string   `json:"rotation,omitempty"` // daily, weekly (default)
	People   []string `json:"people"`
	Webhook  string   `json:"webhook,omitempty"`
}

// WebhookKind is a sender of webhooks.
type WebhookKind string

// The senders whose webhooks the gateway understands.
const (
	GitHub       WebhookKind = "github"
	GitLab       WebhookKind = "gitlab"
	Gitea        WebhookKind = "gitea"
	Forgejo      WebhookKind = "forgejo"
	Alertmanager WebhookKind = "alertmanager"
)

// WebhookKinds lists the senders.
func WebhookKinds() []WebhookKind { return []WebhookKind{GitHub, GitLab, Gitea, Forgejo, Alertmanager} }

// Webhook says that a sender's webhooks are taken, and how they are known to be the sender's.
type Webhook struct {
	Secret string `json:"secret"` // "secret:<name>": what the sender signs with, or sends as its token
}

// Capacity is what a release may hold.
type Capacity struct {
	Points float64  `json:"points,omitempty"` // default 40
	Every  Duration `json:"every,omitempty"`  // plan a release this often; 0 means only when asked
}

// FeedbackPolicy says when feedback becomes work.
type FeedbackPolicy struct {
	Users int `json:"users,omitempty"` // that have to say the same; default 2
}

// Duration is a [time.Duration] that is written as text: "300ms", "1h", and "14d", "2w".
type Duration time.Duration

// MarshalJSON writes the duration as text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads "1h30m", "14d" or "2w".
func (d *Duration) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is text like \"300ms\", \"1h\" or \"2w\", not %s", b)
	}
	parsed, err := ParseDuration(s)
	*d = Duration(parsed)
	return err
}

// ParseDuration reads what [time.ParseDuration] reads, and whole days and weeks ("14d", "2w").
func ParseDuration(s string) (time.Duration, error) {
	if n := len(s); n > 1 && (s[n-1] == 'd' || s[n-1] == 'w') {
		if count, err := strconv.ParseUint(s[:n-1], 10, 64); err == nil && count < 10000 {
			unit := 24 * time.Hour
			if s[n-1] == 'w' {
				unit *= 7
			}
			return time.Duration(count) * unit, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write it like \"300ms\", \"1h\" or \"2w\"", s)
	}
	if d < 0 {
		return 0, fmt.Errorf("the duration %q is negative", s)
	}
	return d, nil
}

// Bytes is a size that is written as text: "512MiB", "2GiB".
type Bytes int64

var byteUnits = []struct {
	name string
	size Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// String writes the amount in the largest unit that leaves it whole.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// MarshalJSON writes the amount as text.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal(b.String()) }

// UnmarshalJSON reads "512MiB".
func (b *Bytes) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("a size is text like \"512MiB\", not %s", text)
	}
	digits, unit := strings.TrimSuffix(s, "B"), Bytes(1)
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(s, u.name); ok {
			digits, unit = number, u.size
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || digits == s || n > (1<<50)/int64(unit) {
		return fmt.Errorf("%q is no size; write it like \"64KiB\", \"512MiB\" or \"2GiB\"", s)
	}
	*b = Bytes(n) * unit
	return nil
}

// Percent is a share, 0 to 1, that is written as text: "99.9%".
type Percent float64

// MarshalJSON writes the share as text.
func (p Percent) MarshalJSON() ([]byte, error) {
	// Shifted as text, so that the share comes back as the very same number.
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(float64(p), 'f', -1, 64), ".")
	for len(fraction) < 2 {
		fraction += "0"
	}
	whole = strings.TrimLeft(whole+fraction[:2], "0")
	if whole == "" {
		whole = "0"
	}
	if fraction = fraction[2:]; fraction != "" {
		whole += "." + fraction
	}
	return json.Marshal(whole + "%")
}

// UnmarshalJSON reads "99.9%".
func (p *Percent) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a percentage is text like \"99.9%%\", not %s", b)
	}
	digits, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(digits+"e-2", 64) // not divided by 100, which rounds once more
	if !ok || err != nil || v < 0 || v > 1 {
		return fmt.Errorf("%q is no percentage; write it like \"99.9%%\"", s)
	}
	*p = Percent(v)
	return nil
}

// Owner is whoever does a phase: [Builtin], or an outside principal.
func (p Project) Owner(phase Phase) string {
	if o := p.Owners[phase]; o != "" {
		return o
	}
	return Builtin
}

// Runs reports whether Lemnis's own service does the phase.
func (p Project) Runs(phase Phase) bool { return p.Owner(phase) == Builtin }

// Deploys reports whether the principal is the outside tool that deploys to some environment, or to all.
func (p Project) Deploys(principal string) bool {
	return p.Owner(Deploy) == principal || slices.ContainsFunc(p.Environments, func(e Environment) bool { return e.DeployedBy() == principal && principal != "" })
}

// DeployedBy is the principal of the outside tool that deploys to the environment; empty: Lemnis does.
func (e Environment) DeployedBy() string {
	if e.Target != OutsideTarget || e.Outside == nil {
		return ""
	}
	return e.Outside.Owner
}

// Environment finds an environment and its place in the order; place −1 when there is none.
func (p Project) Environment(name string) (Environment, int) {
	for i, e := range p.Environments {
		if e.Name == name {
			return e, i
		}
	}
	return Environment{}, -1
}

// Repository finds a repository of the project by name.
func (p Project) Repository(name string) (RepositoryRef, bool) {
	for _, r := range p.Repositories {
		if r.Name == name {
			return r, true
		}
	}
	return RepositoryRef{}, false
}

// Together are the services that a service needs, and then those that need it, each once, in the project's order.
func (p Project) Together(service string) []string {
	var all []string
	add := func(name string) {
		if name != service && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	own, _ := p.Repository(service)
	for _, name := range own.Needs {
		add(name)
	}
	for _, r := range p.Repositories {
		if slices.Contains(r.Needs, service) {
			add(r.Name)
		}
	}
	return all
}

// DefaultProject is the configuration of a project before the first one is applied: three
// environments with ever stricter gates, one approval a change.
func DefaultProject(name string) Project {
	return Project{
		Name:   name,
		Review: ReviewPolicy{Approvals: 1},
		Environments: []Environment{
			{Name: "dev", Target: "process", Gate: Gate{Tests: "passed"}},
			{Name: "test", Target: "process", Gate: Gate{Tests: "passed", Runtime: "passed"}},
			{Name: "prod", Target: "process", Strategy: "canary", Gate: Gate{Tests: "passed", Runtime: "passed"}},
		},
		Capacity: Capacity{Points: 40},
		Feedback: FeedbackPolicy{Users: 2},
	}
}
