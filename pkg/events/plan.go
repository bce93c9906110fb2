package events

// Content types of the plan phase. Fields of the standard types are those of CDEvents 0.5.1;
// the field Lemnis is what Lemnis adds, carried in customData.

// Ticket is the content of the three ticket types: a work item of the backlog.
type Ticket struct {
	Summary    string   `json:"summary"`
	TicketType string   `json:"ticketType,omitempty"` // bug, enhancement, incident, task, question, …
	Group      string   `json:"group,omitempty"`
	Creator    string   `json:"creator" schema:"nonempty"`
	Assignees  []string `json:"assignees,omitempty"`
	Priority   string   `json:"priority,omitempty"` // low, medium, high, …
	Labels     []string `json:"labels,omitempty"`
	Milestone  string   `json:"milestone,omitempty"`
	URI        string   `json:"uri" schema:"nonempty,format=uri-reference"`
}

// Origins of work items and of value estimates.
const (
	EndUser     = "end-user"
	Stakeholder = "stakeholder"
	CaseStudy   = "case-study"
	Operations  = "operations"
)

// TicketDetail is what Lemnis adds to a ticket.
type TicketDetail struct {
	Origin   string    `json:"origin,omitempty"`   // who asks: end-user, stakeholder, case-study, operations
	Feature  string    `json:"feature,omitempty"`  // feature of the product that it concerns
	Insight  string    `json:"insight,omitempty"`  // insight that it answers
	Requires []string  `json:"requires,omitempty"` // items that have to be shipped before it
	Estimate *Estimate `json:"estimate,omitempty"`
}

// Estimate is one source's opinion of an item. Value and cost are in points, both ≥ 0; a cost
// of 0 means that the source does not say.
type Estimate struct {
	Source     string  `json:"source"` // end-user, stakeholder, case-study, operations
	By         string  `json:"by,omitempty"`
	Value      float64 `json:"value"`
	Cost       float64 `json:"cost,omitempty"`
	Confidence float64 `json:"confidence,omitempty"` // 0 to 1; 0 means that the source does not say
	Reason     string  `json:"reason,omitempty"`
}

// TicketCreated says that a work item was opened.
type TicketCreated struct {
	Ticket
	Lemnis TicketDetail `json:"-"`
}

// TicketUpdated says that a work item was changed.
type TicketUpdated struct {
	Ticket    `schema:"optional=summary|creator"`
	UpdatedBy string       `json:"updatedBy,omitempty"`
	Lemnis    TicketDetail `json:"-"`
}

// TicketClosed says that a work item is done, or will not be.
type TicketClosed struct {
	Ticket     `schema:"optional=summary|creator"`
	Resolution string       `json:"resolution" schema:"nonempty"` // completed, withdrawn, declined, …
	UpdatedBy  string       `json:"updatedBy,omitempty"`
	Lemnis     TicketDetail `json:"-"`
}

// ProjectConfigured says that a revision of the project's configuration is in force.
type ProjectConfigured struct {
	Revision uint64  `json:"revision"`
	Project  Project `json:"project"`
}

// ValueEstimated says what a source holds an item to be worth.
type ValueEstimated struct {
	Item     string   `json:"item"`
	Title    string   `json:"title,omitempty"`
	Feature  string   `json:"feature,omitempty"`
	Estimate Estimate `json:"estimate"`
	// Value, Cost are the item's after all sources were weighed; the backlog is ordered by them.
	Value    float64  `json:"value"`
	Cost     float64  `json:"cost"`
	Requires []string `json:"requires,omitempty"`
	Reason   string   `json:"reason,omitempty"`
}

// Place is an item's place in the backlog and the reason for it.
type Place struct {
	Item   string  `json:"item"`
	Title  string  `json:"title,omitempty"`
	Rank   int     `json:"rank"` // from 1
	Value  float64 `json:"value"`
	Cost   float64 `json:"cost"`
	Score  float64 `json:"score"` // value per cost
	Reason string  `json:"reason"`
}

// BacklogRanked states the order of the open items, best first.
type BacklogRanked struct {
	Places []Place `json:"places"`
	Reason string  `json:"reason,omitempty"` // what changed the order
}

// ReleasePlanned states which items the next release holds.
type ReleasePlanned struct {
	Release  string   `json:"release"`
	Capacity float64  `json:"capacity"` // points
	Value    float64  `json:"value"`    // of the chosen items
	Cost     float64  `json:"cost"`
	Bound    float64  `json:"bound,omitempty"` // proven upper bound of the value under the capacity
	Items    []Place  `json:"items"`
	LeftOut  []string `json:"leftOut,omitempty"`
	Reason   string   `json:"reason,omitempty"`
}

// ReleaseCompleted says that every item of a release reached its users or was dropped.
type ReleaseCompleted struct {
	Release string   `json:"release"`
	Shipped []string `json:"shipped"`
	Dropped []string `json:"dropped,omitempty"`
}

func init() {
	enter[TicketCreated]("dev.cdevents.ticket.created.0.2.0", Plan, open)
	enter[TicketUpdated]("dev.cdevents.ticket.updated.0.2.0", Plan, open)
	enter[TicketClosed]("dev.cdevents.ticket.closed.0.2.0", Plan, open)
	enter[ProjectConfigured]("dev.cdeventsx.lemnis-project.configured.0.1.0", Plan, open)
	enter[ValueEstimated]("dev.cdeventsx.lemnis-value.estimated.0.1.0", Plan, open)
	enter[BacklogRanked]("dev.cdeventsx.lemnis-backlog.ranked.0.1.0", Plan)
	enter[ReleasePlanned]("dev.cdeventsx.lemnis-release.planned.0.1.0", Plan, open)
	enter[ReleaseCompleted]("dev.cdeventsx.lemnis-release.completed.0.1.0", Plan, open)
}
