package webhook

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/pkg/events"
)

// alerts is version 4 of what Alertmanager sends to a webhook receiver. Its own module holds a type for it, which would
// bring 3.6 MB of Prometheus into every gateway; these are the fields that are read.
type alerts struct {
	Version  string `json:"version"`
	GroupKey string `json:"groupKey"`
	External string `json:"externalURL"`
	Alerts   []struct {
		Status      string            `json:"status"` // firing, resolved
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		Starts      time.Time         `json:"startsAt"`
		Ends        time.Time         `json:"endsAt"`
		Generator   string            `json:"generatorURL"`
		Fingerprint string            `json:"fingerprint"`
	} `json:"alerts"`
}

// alertmanager makes an incident of each alert. An alert that fires again, after it was resolved, is another incident
// with the same key: alert/<fingerprint>, and behind a "#" the time at which it began.
func alertmanager(d *delivery) error {
	var e alerts
	if err := d.decode(&e); err != nil {
		return err
	}
	switch {
	case e.Version == "" || !d.has("alerts"):
		return malformed("it has no version or no alerts")
	case e.Version != "4":
		return &UnknownError{Event: "version " + e.Version}
	case len(e.Alerts) == 0:
		return malformed("it has no alerts")
	}
	d.source = "/alertmanager"
	if u, err := url.Parse(e.External); err == nil && u.Host != "" {
		d.source = e.External
	}
	for i, a := range e.Alerts {
		if a.Fingerprint == "" {
			return malformed("alerts[%d] has no fingerprint", i)
		}
		id := fmt.Sprintf("alert/%s#%d", a.Fingerprint, a.Starts.Unix())
		about := events.Incident{
			Description: excerpt.Of(describe(a.Labels, a.Annotations), longestComment),
			Environment: events.Reference{ID: d.environment(a.Labels)},
		}
		if service := first(a.Labels, "service", "app", "job"); service != "" {
			about.Service = &events.Reference{ID: service}
		}
		detail := events.IncidentDetail{Severity: severity(a.Labels["severity"]), Title: a.Labels["alertname"], Onset: a.Starts.UTC().Format(time.RFC3339Nano)}
		said := claim{subject: id, at: a.Starts, chain: id, cause: a.Generator}
		switch a.Status {
		case "firing":
			said.content = events.IncidentDetected{Incident: about, Lemnis: detail}
		case "resolved":
			detail.Remedy = "the alert is resolved"
			said.at, said.content = a.Ends, events.IncidentResolved{Incident: about, Lemnis: detail}
		default:
			return malformed("alerts[%d].status is %q; it is firing or resolved", i, a.Status)
		}
		d.claim(said)
	}
	return nil
}

// environment is what a label says, else the last of the project's, which is where users are.
func (d *delivery) environment(labels map[string]string) string {
	if name := first(labels, "environment", "env", "stage"); name != "" {
		return name
	}
	if n := len(d.project.Environments); n > 0 {
		return d.project.Environments[n-1].Name
	}
	return "prod"
}

func describe(labels, annotations map[string]string) string {
	summary, description := annotations["summary"], annotations["description"]
	if summary != "" && description != "" {
		return summary + ": " + description
	}
	return cmp.Or(summary, description, annotations["message"], labels["alertname"], "an alert without a name")
}

func first(labels map[string]string, names ...string) string {
	for _, name := range names {
		if v := strings.TrimSpace(labels[name]); v != "" {
			return v
		}
	}
	return ""
}

// severity wakes somebody for what its author calls urgent, and for what has no severity.
func severity(label string) string {
	switch strings.ToLower(label) {
	case "warning", "info", "none", "low", "minor", "ticket":
		return "ticket"
	}
	return "page"
}
