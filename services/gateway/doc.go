// Package gateway is the door for people and other systems: it checks what they say and puts it on the stream as
// claims, shows claims and facts to whoever asks, and serves the dashboard and the binary repository.
//
//	gw, err := gateway.New(gateway.Options{Host: host, Registry: registry})
//	go gw.Run(ctx)               // inbox, index, overview, live events
//	err = gw.Serve(ctx, listener) // or gw.Handler() under a server of your own
//
// # What comes in
//
// POST /events, POST /feedback and the inbox SUBMIT_local for NATS publishers lead through one function, admit: the
// event is judged by the CDEvents schemas, loses what an outsider may not say (its cause, its principal, its place on
// the stream), and gets a chain and a trace. What is refused is answered as application/problem+json, or becomes a
// dead letter with the reason. A body is kept to the byte, with one exception: the words and the name of whoever gives
// feedback are sealed before they become part of a claim (internal/privacy).
//
// POST /webhooks/{kind}/{project} leads there too: package webhook makes claims of a delivery whose sender has proved to
// know the project's secret (docs/webhooks.md).
//
// The same event (source and id of one principal) again is the same claim: within two minutes by the stream's own
// memory, later by the index. Another event (type, subject id or project) under that source and id is refused with 409: it
// would be lost otherwise. Prefer: wait=SECONDS on a single event waits for the fact or the refusal that the claim
// causes.
//
// # What goes out
//
// GET /events reads the stream itself by subject filters. For a chain, and for an event by its id, an index in the
// store of folds holds sequences only; it is written behind the stream, belongs to all gateways together, and is
// rebuilt when the store was wiped; until then those questions are answered 503. GET /events/stream shares one reader of
// the stream among all listeners; one that falls too far behind is told so and dropped. GET /api/v1/overview is a fold
// in memory. Results never show.
//
// /subscriptions has facts pushed to HTTP receivers, or kept for NATS clients: package subscription.
//
// # Who may ask
//
// Every endpoint is reached through a rule (access.go); one without is for administrators. With Options.Authenticate a
// request carries a token, whose name is the principal and whose scopes say what it may (package access); claims are judged
// by the phase, project and environment that they speak of, after they were read. Without it everybody is the principal
// local, Serve takes loopback listeners only, and a request for a foreign Host is refused. A request from a page of a
// foreign Origin is refused in any case: a web page must not act through the browser of whoever reads it.
//
// # What it does not do yet
//
//   - Pulls from the registry and deletions there are not claimed (artifact downloaded, deleted).
//   - A test's phase can be overridden to deploy only; integrate is what clients state who do not care.
//   - Every project is known: it begins with the first event that names it, under the default configuration.
//   - The overview is folded from the beginning of the stream at each start.
package gateway
