package natsd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Shapes are the configurations that the streams of an installation have, without its inboxes and buckets.
func Shapes(replicas int) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{lifecycleConfig(replicas), timersConfig(replicas), deadLetterConfig(replicas)}
}

// Deviations says in what a stream is not what it should be, but for its limits; empty when in nothing.
func Deviations(have, want jetstream.StreamConfig) []string {
	var all []string
	differs := func(what string, have, want any) {
		if h, w := fmt.Sprint(have), fmt.Sprint(want); h != w {
			all = append(all, fmt.Sprintf("%s is %s, not %s", what, h, w))
		}
	}
	transform := func(c *jetstream.SubjectTransformConfig) string {
		if c == nil {
			return "none"
		}
		return c.Source + " to " + c.Destination
	}
	sorted := func(subjects []string) string { return strings.Join(slices.Sorted(slices.Values(subjects)), " ") }
	differs("subjects", sorted(have.Subjects), sorted(want.Subjects))
	differs("the subjects' transform", transform(have.SubjectTransform), transform(want.SubjectTransform))
	differs("retention", have.Retention, want.Retention)
	differs("storage", have.Storage, want.Storage)
	differs("replicas", have.Replicas, want.Replicas)
	differs("largest message", have.MaxMsgSize, want.MaxMsgSize)
	differs("direct reading", have.AllowDirect, want.AllowDirect)
	differs("schedules", have.AllowMsgSchedules, want.AllowMsgSchedules)
	differs("deletion denied", have.DenyDelete, want.DenyDelete)
	return all
}

// Dropping says which limits make a stream drop what it holds, or refuse what is new; empty when none does.
func Dropping(c jetstream.StreamConfig) []string {
	var all []string
	if c.MaxAge > 0 {
		all = append(all, fmt.Sprintf("age %s", c.MaxAge))
	}
	if c.MaxMsgs > 0 {
		all = append(all, fmt.Sprintf("%d messages", c.MaxMsgs))
	}
	if c.MaxBytes > 0 {
		all = append(all, fmt.Sprintf("%d bytes", c.MaxBytes))
	}
	if c.MaxMsgsPerSubject > 0 {
		all = append(all, fmt.Sprintf("%d messages a subject", c.MaxMsgsPerSubject))
	}
	return all
}
