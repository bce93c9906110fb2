package events

// Content types of the learn phase, and those that every phase may state.

// FeedbackReceived says that a user said something. The words themselves are masked and
// encrypted under the user's own key before they become part of an event.
type FeedbackReceived struct {
	User    string  `json:"user"` // pseudonym
	Feature string  `json:"feature,omitempty"`
	Service string  `json:"service,omitempty"`
	Rating  float64 `json:"rating,omitempty"` // 1 to 5; 0 means that the user gave none
	Text    []byte  `json:"text,omitempty"`   // ciphertext
	Key     string  `json:"key,omitempty"`    // id of the key that it is encrypted under
}

// Understanding is what was understood of one piece of feedback, without its words.
type Understanding struct {
	Feedback  string   `json:"feedback"` // its key
	User      string   `json:"user"`
	Feature   string   `json:"feature,omitempty"`
	Service   string   `json:"service,omitempty"`
	Category  string   `json:"category"`          // performance, failure, usability, missing, praise, other
	Sentiment float64  `json:"sentiment"`         // −1 to 1
	Terms     []uint64 `json:"terms,omitempty"`   // hashed word stems, sorted
	Rating    float64  `json:"rating,omitempty"`  // as the user gave it
	EventID   string   `json:"eventId,omitempty"` // id of the fact that the feedback was received
}

// InsightFound says what several users say in common.
type InsightFound struct {
	Insight    string         `json:"insight"` // its id
	Title      string         `json:"title"`
	Feature    string         `json:"feature,omitempty"`
	Service    string         `json:"service,omitempty"`
	Category   string         `json:"category"`
	Users      []string       `json:"users"`     // pseudonyms, sorted
	Feedback   []string       `json:"feedback"`  // keys of the pieces of feedback, in order of arrival
	Sentiment  float64        `json:"sentiment"` // mean, −1 to 1
	Confirmed  bool           `json:"confirmed"` // enough users say it for the planner to act
	Terms      []uint64       `json:"terms,omitempty"`
	Understood *Understanding `json:"understood,omitempty"` // what the latest piece of feedback added
}

// ValueRealized says what a shipped item turned out to be worth.
type ValueRealized struct {
	Item      string  `json:"item"`
	Feature   string  `json:"feature,omitempty"`
	Estimated float64 `json:"estimated"`
	Realized  float64 `json:"realized"`
	Reason    string  `json:"reason"`
}

// DeliveryMetrics are the five delivery figures over a window. Durations are in seconds, medians; a
// negative one means that there was nothing to measure.
type DeliveryMetrics struct {
	Since          string  `json:"since"` // RFC 3339
	Until          string  `json:"until"`
	Deployments    int     `json:"deployments"` // to the last environment
	Failed         int     `json:"failed"`      // of them needed intervention
	Rework         int     `json:"rework"`      // unplanned deployments caused by an incident
	LeadTime       float64 `json:"leadTime"`    // from change created to production
	RecoveryTime   float64 `json:"recoveryTime"`
	PerDay         float64 `json:"perDay"`
	ChangeFailRate float64 `json:"changeFailRate"` // 0 to 1
	ReworkRate     float64 `json:"reworkRate"`     // 0 to 1
}

// MetricsComputed states the delivery figures.
type MetricsComputed struct {
	Metrics DeliveryMetrics `json:"metrics"`
	// The samples that the medians are taken from, newest last, at most 100 each, in seconds.
	LeadTimes     []float64 `json:"leadTimes,omitempty"`
	RecoveryTimes []float64 `json:"recoveryTimes,omitempty"`
	Reason        string    `json:"reason,omitempty"` // what made them change
}

// LessonLearned says what an incident, or a success, teaches the next plan.
type LessonLearned struct {
	Lesson  string   `json:"lesson"` // its id
	Title   string   `json:"title"`
	Kind    string   `json:"kind"` // incident, success
	Item    string   `json:"item,omitempty"`
	Change  string   `json:"change,omitempty"`
	Service string   `json:"service,omitempty"`
	Feature string   `json:"feature,omitempty"`
	Action  string   `json:"action"`          // what the planner shall do: reopen, raise-cost, none
	Facts   []string `json:"facts,omitempty"` // ids of the events that it rests on
	Reason  string   `json:"reason,omitempty"`
}

// RequesterNotified says that a user was told what became of a request.
type RequesterNotified struct {
	User    string `json:"user"`
	Item    string `json:"item"`
	Release string `json:"release,omitempty"`
	Channel string `json:"channel"`
}

// ClaimRefused says no to a claim, with the reason.
type ClaimRefused struct {
	Claim     string `json:"claim"` // id
	ClaimType Type   `json:"claimType"`
	Principal string `json:"principal,omitempty"`
	Reason    string `json:"reason"`
}

// DeadlineReached says that the time which a fact allowed has passed.
type DeadlineReached struct {
	Fact      string `json:"fact"` // id of the fact that set it
	FactType  Type   `json:"factType"`
	Aggregate string `json:"aggregate"`
	Key       string `json:"key"`
	Due       string `json:"due"` // RFC 3339
}

// TokenChanged records a change of an access token.
type TokenChanged struct {
	Token  string `json:"token"` // name, never the secret
	Change string `json:"change"`
}

// SubscriptionChanged records a change of a subscription.
type SubscriptionChanged struct {
	Subscription string `json:"subscription"`
	Change       string `json:"change"`
}

func init() {
	enter[FeedbackReceived]("dev.cdeventsx.lemnis-feedback.received.0.1.0", Learn, open)
	enter[Understanding]("dev.cdeventsx.lemnis-feedback.understood.0.1.0", Learn, internalOnly)
	enter[InsightFound]("dev.cdeventsx.lemnis-insight.found.0.1.0", Learn)
	enter[ValueRealized]("dev.cdeventsx.lemnis-value.realized.0.1.0", Learn)
	enter[MetricsComputed]("dev.cdeventsx.lemnis-metrics.computed.0.1.0", Learn)
	enter[LessonLearned]("dev.cdeventsx.lemnis-lesson.learned.0.1.0", Learn, open)
	enter[RequesterNotified]("dev.cdeventsx.lemnis-requester.notified.0.1.0", Learn)
	enter[ClaimRefused]("dev.cdeventsx.lemnis-claim.refused.0.1.0", "", internalOnly)
	enter[DeadlineReached]("dev.cdeventsx.lemnis-deadline.reached.0.1.0", "", internalOnly)
	enter[TokenChanged]("dev.cdeventsx.lemnis-token.changed.0.1.0", "", internalOnly)
	enter[SubscriptionChanged]("dev.cdeventsx.lemnis-subscription.changed.0.1.0", "", internalOnly)
}
