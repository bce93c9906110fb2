package eventstest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Examples are one event for each type of the catalogue, sorted by type, with every field of
// its content filled. They are the same in every run.
func Examples() []events.Event {
	entries := events.Catalogue()
	out := make([]events.Event, 0, len(entries))
	for _, entry := range entries {
		out = append(out, example(entry, numbers[entry.Type]))
	}
	return out
}

// Example is the event of [Examples] of this type. It panics when the catalogue has no such type.
func Example(t events.Type) events.Event {
	entry, ok := events.Lookup(t)
	if !ok {
		panic(fmt.Sprintf("eventstest: no event type %q", t))
	}
	return example(entry, numbers[t])
}

// later are the types that came when examples of the others were recorded already, in the order in which they came: they
// are numbered behind, so that a new type changes no other's example. Append to it.
var later = []events.Type{
	events.TypeOf(events.DeadLetterResent{}), events.TypeOf(events.RebuildRequested{}), events.TypeOf(events.RebuildReported{}),
	events.TypeOf(events.DeploymentRetired{}), events.TypeOf(events.DriftMended{}),
	events.TypeOf(events.QueueSurveyed{}), events.TypeOf(events.QueuePlanned{}),
}

// numbers tell the examples apart.
var numbers = func() map[events.Type]int {
	known := map[events.Type]int{}
	for _, entry := range events.Catalogue() {
		if !slices.Contains(later, entry.Type) {
			known[entry.Type] = len(known)
		}
	}
	for _, t := range later {
		known[t] = len(known)
	}
	return known
}()

func example(entry events.Entry, n int) events.Event {
	content := reflect.New(reflect.TypeOf(entry.Zero())).Elem()
	fill(content, "")
	phase := entry.Phase
	if phase == "" {
		phase = events.Plan
	}
	cause := fmt.Sprintf("0b1e7c1c-5a53-4a65-8a0a-%012d", n)
	return events.Event{
		ID: fmt.Sprintf("3f6c7a52-3a0e-5d1b-9a63-%012d", n), Source: "/lemnis/" + string(phase), Type: entry.Type,
		Time:    time.Date(2026, 3, 1, 12, 0, n, 123456789, time.UTC),
		Project: "shop", Phase: phase, Aggregate: strings.TrimPrefix(entry.Type.Subject(), "lemnis-"), Key: fmt.Sprintf("api/%d", n),
		Principal: "ann", Cause: cause, TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		CauseSequence: uint64(n) + 100, ConfigRevision: 3, Attempt: 2, Deadline: time.Date(2026, 3, 2, 0, 0, n, 0, time.UTC),
		Chain: "7d1a3a4e-9f0e-4b7e-8a59-6f1a44f7b0c2",
		Links: []events.Link{
			{Type: events.Path, Context: cause},
			{Type: events.Relation, Kind: "TRIGGER", Context: "5328c37f-bb7e-4bb7-84ea-9f5f85e4a7ce", Tags: map[string]string{"why": "the same feature"}},
		},
		SubjectID: fmt.Sprintf("api/%d", n), SubjectSource: "https://lemnis.example.org/shop",
		SchemaURI: "https://lemnis.example.org/schemas/extra", Content: content.Interface(),
	}
}

// words are plausible values by the name of the field that holds them. Those that the CDEvents
// schemas enumerate have to be among theirs.
var words = map[string]string{
	"ticketType": "enhancement", "priority": "high", "resolution": "completed", "creator": "ann", "updatedBy": "bo",
	"assignees": "bo", "labels": "search", "milestone": "2026-03", "origin": events.EndUser, "category": "performance",
	"outcome": events.Success, "severity": "high", "outputType": "report", "format": "application/xml", "trigger.type": "pipeline", "testCase.type": "functional",
	"uri": "https://lemnis.example.org/things/1", "viewUrl": "https://lemnis.example.org/things/1/view", "url": "https://lemnis.example.org/api",
	"ticketURI": "https://lemnis.example.org/tickets/T-17", "webhook": "secret:pager", "credentials": "secret:git",
	"artifactId": "pkg:oci/api@sha256%3A0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427",
	"digest":     "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427",
	"reference":  "127.0.0.1:8080/shop/api@sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427",
	"head":       "4f0c2b6d1f2f3bb1f4f6f3a0a1b2c3d4e5f60718", "commit": "9a8b7c6d5e4f30211203f4e5d6c7b8a990817263", "onto": "1029384756abcdef1029384756abcdef10293847",
	"branch": "faster-search", "base": "main", "repository": "api", "service": "api", "feature": "search", "item": "T-17", "change": "42",
	"author": "ann", "reviewer": "bo", "verdict": events.Approved, "by": "bo", "user": "u-5f3a", "users": "u-5f3a", "people": "ann",
	"environment": "prod", "next": "prod", "target": "process", "strategy": "canary", "step": "canary", "status": events.Unhealthy, "before": events.Healthy,
	"tests": "passed", "runtime": "passed", "paths": "/healthz", "path": "/search", "headers": "X-Content-Type-Options", "licenses": "Apache-2.0",
	"rotation": "weekly", "main": "./cmd/api", "owner": "platform", "claimType": "dev.cdevents.change.merged.0.3.0",
	"factType": "dev.cdeventsx.lemnis-approval.requested.0.1.0", "since": "2026-02-01T00:00:00Z", "until": "2026-03-01T00:00:00Z",
	"committed": "2026-02-28T17:30:00Z", "onset": "2026-03-01T11:59:30Z", "due": "2026-03-02T00:00:00Z", "reason": "p99 of 2.1 s is over 300 ms",
}

var shares = map[string]float64{
	"availability": 0.875, "changeFailRate": 0.125, "reworkRate": 0.0625, "confidence": 0.75, "weight": 0.25, "sentiment": -0.5, "objective": 0.999, "coverage": 81.5,
}

// fill sets every field that travels in an event.
func fill(v reflect.Value, name string) {
	switch d := v.Addr().Interface().(type) {
	case *events.Duration:
		*d = events.Duration(90 * time.Second)
		return
	case *events.Bytes:
		*d = 64 << 20
		return
	case *events.Percent:
		*d = 0.999
		return
	case *map[events.Phase]string:
		*d = map[events.Phase]string{events.Integrate: "jenkins"}
		return
	case *map[events.WebhookKind]events.Webhook:
		*d = map[events.WebhookKind]events.Webhook{events.GitHub: {Secret: "secret:github"}}
		return
	case *map[events.Severity]int:
		*d = map[events.Severity]int{events.SeverityCritical: 0, events.SeverityHigh: 2}
		return
	case *[]byte:
		*d = []byte("sealed")
		return
	}
	short := name[strings.LastIndexByte(name, '.')+1:]
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if tag != "-" || f.Name == "Lemnis" {
				fill(v.Field(i), short+"."+tag)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, name)
		v.SetMapIndex(reflect.ValueOf("p99"), value)
	case reflect.String:
		if w, ok := words[name]; ok {
			v.SetString(w)
		} else if w, ok := words[short]; ok {
			v.SetString(w)
		} else {
			v.SetString("some " + short)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint64:
		v.SetUint(1<<63 + 5) // does not survive a detour over float64
	case reflect.Float64:
		if share, ok := shares[short]; ok {
			v.SetFloat(share)
		} else {
			v.SetFloat(2.5)
		}
	default:
		panic(fmt.Sprintf("eventstest: no example for %s of type %s", name, v.Type()))
	}
}
