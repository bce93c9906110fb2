// Package api is the HTTP client of the gateway: what the command line and the demo know of an installation.
//
//	c := api.New("http://127.0.0.1:8080")
//	answer, err := c.Claim(ctx, event)      // waits for the fact, or for the refusal
//	err = c.Follow(ctx, api.Query{Project: "shop"}, func(e events.Event) error { … })
//
// It speaks no NATS and holds no state: whatever it can do, curl can.
package api
