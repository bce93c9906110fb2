// Package delivery computes the five delivery figures of DORA over what reached the last environment. One aggregate a
// project.
//
// Failed deployments are counted by rollout, each once, however many incidents or rollbacks speak of it. A deployment
// is rework when its item is one that an incident was opened for before. Figures are medians of the latest samples;
// what is not yet deployed has no lead time. All times are those at which the stream stored the facts, but for the commit's.
package delivery

import "github.com/lemnis/lemnis/pkg/events"

// Kind names the aggregate.
const Kind = "delivery"

// Version of the fold.
const Version = 1

const mostSamples = 100 // that a median is taken from

// State is the figures as last stated.
type State struct {
	Figures  events.DeliveryMetrics `json:"figures"`
	Lead     []float64              `json:"lead,omitempty"`
	Recovery []float64              `json:"recovery,omitempty"`
	Counted  []string               `json:"counted,omitempty"`  // deployments, failures and incidents, the latest
	Troubled []string               `json:"troubled,omitempty"` // items that incidents were about, the latest
}
