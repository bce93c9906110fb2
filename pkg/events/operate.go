package events

// Content types of the operate phase.

// IncidentDetail is what Lemnis adds to the incident types.
type IncidentDetail struct {
	Severity string `json:"severity,omitempty"` // page, ticket
	Rollout  string `json:"rollout,omitempty"`
	Change   string `json:"change,omitempty"` // change held to be the cause
	Item     string `json:"item,omitempty"`
	Title    string `json:"title,omitempty"`
	Author   string `json:"author,omitempty"`
	Feature  string `json:"feature,omitempty"`
	Exposed  int64  `json:"exposed,omitempty"` // requests that met the fault
	Onset    string `json:"onset,omitempty"`   // RFC 3339
	Cause    string `json:"cause,omitempty"`
	Remedy   string `json:"remedy,omitempty"` // what repaired it
}

// Incident is the content of the incident types.
type Incident struct {
	Description string     `json:"description,omitempty"`
	Environment Reference  `json:"environment"`
	Service     *Reference `json:"service,omitempty"`
	ArtifactID  string     `json:"artifactId,omitempty" schema:"nonempty"`
}

// IncidentDetected says that a machine noticed that users suffer, or would.
type IncidentDetected struct {
	Incident
	Lemnis IncidentDetail `json:"-"`
}

// IncidentReported says that a person noticed it, or that a ticket was opened.
type IncidentReported struct {
	Incident
	TicketURI string         `json:"ticketURI" schema:"nonempty,format=uri-reference"`
	Lemnis    IncidentDetail `json:"-"`
}

// IncidentResolved says that users no longer suffer.
type IncidentResolved struct {
	Incident
	Lemnis IncidentDetail `json:"-"`
}

// States of health.
const (
	Healthy   = "healthy"
	Degraded  = "degraded"
	Unhealthy = "unhealthy"
	Unknown   = "unknown"
)

// HealthChanged says that a service, or a feature of it, got better or worse.
type HealthChanged struct {
	Environment  string  `json:"environment"`
	Service      string  `json:"service"`
	Feature      string  `json:"feature,omitempty"` // empty: the service as a whole
	URL          string  `json:"url,omitempty"`
	Status       string  `json:"status" schema:"enum=healthy|degraded|unhealthy|unknown"` // healthy, degraded, unhealthy, unknown
	Before       string  `json:"before,omitempty" schema:"enum=healthy|degraded|unhealthy|unknown"`
	Probes       int     `json:"probes"`       // in the window
	Availability float64 `json:"availability"` // share of the window's probes that succeeded, 0 to 1
	P50          float64 `json:"p50"`          // seconds
	P99          float64 `json:"p99"`          // seconds
	Reason       string  `json:"reason,omitempty"`
}

// SLOBurned says that an objective's error budget is being spent too fast.
type SLOBurned struct {
	Environment string  `json:"environment"`
	Service     string  `json:"service"`
	Objective   string  `json:"objective"`
	Burn        float64 `json:"burn"` // multiple of the sustainable rate
	Reason      string  `json:"reason,omitempty"`
}

// SLORecovered says that it no longer is.
type SLORecovered struct {
	Environment string `json:"environment"`
	Service     string `json:"service"`
	Objective   string `json:"objective"`
}

// AlertSent says who was told of an incident, and whether the message arrived.
type AlertSent struct {
	Incident  string `json:"incident"`
	To        string `json:"to"`
	Channel   string `json:"channel"` // webhook, log
	Delivered bool   `json:"delivered"`
	Text      string `json:"text"`
	Reason    string `json:"reason,omitempty"` // why it was not delivered
}

// AlertAcknowledged says that a person takes care.
type AlertAcknowledged struct {
	Incident string `json:"incident"`
	By       string `json:"by,omitempty"`
}

// AlertEscalated says that the next person is told.
type AlertEscalated struct {
	Incident string `json:"incident"`
	To       string `json:"to"`
	Reason   string `json:"reason,omitempty"`
}

// RemediationStarted says that something is done against an incident.
type RemediationStarted struct {
	Incident string `json:"incident"`
	Action   string `json:"action"`
	Done     bool   `json:"done,omitempty"` // it was done already when this was said
}

// RemediationFinished says what came of it.
type RemediationFinished struct {
	Incident string `json:"incident"`
	Action   string `json:"action"`
	Outcome  string `json:"outcome" schema:"enum=success|failure"` // success, failure
}

func init() {
	enter[IncidentDetected]("dev.cdevents.incident.detected.0.3.0", Operate, open)
	enter[IncidentReported]("dev.cdevents.incident.reported.0.3.0", Operate, open)
	enter[IncidentResolved]("dev.cdevents.incident.resolved.0.3.0", Operate, open)
	enter[HealthChanged]("dev.cdeventsx.lemnis-health.changed.0.1.0", Operate)
	enter[SLOBurned]("dev.cdeventsx.lemnis-slo.burned.0.1.0", Operate)
	enter[SLORecovered]("dev.cdeventsx.lemnis-slo.recovered.0.1.0", Operate)
	enter[AlertSent]("dev.cdeventsx.lemnis-alert.sent.0.1.0", Operate)
	enter[AlertAcknowledged]("dev.cdeventsx.lemnis-alert.acknowledged.0.1.0", Operate, open)
	enter[AlertEscalated]("dev.cdeventsx.lemnis-alert.escalated.0.1.0", Operate)
	enter[RemediationStarted]("dev.cdeventsx.lemnis-remediation.started.0.1.0", Operate)
	enter[RemediationFinished]("dev.cdeventsx.lemnis-remediation.finished.0.1.0", Operate)
}
