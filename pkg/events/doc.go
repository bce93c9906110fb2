// Package events is the vocabulary of Lemnis and the way to speak it: what an event is, how it
// travels, how to submit one, how to receive them.
//
// # What an event is
//
// An [Event] is a CDEvent 0.5 inside a CloudEvent 1.0. Where CDEvents has a type for what
// happened, that type is used ("dev.cdevents.change.merged.0.3.0"); where it has none, a custom
// one ("dev.cdeventsx.lemnis-backlog.ranked.0.1.0"). [Catalogue] lists them all. Each type has a
// content type of its own: a [ChangeMerged], a [BacklogRanked]. Its fields are those of CDEvents;
// what Lemnis adds to a standard type stands in the field Lemnis, and travels in customData.
//
//	switch c := e.Content.(type) {
//	case events.ChangeMerged:
//		fmt.Println(e.SubjectID, "is merged as", c.Lemnis.Commit)
//	}
//
// Events speak in three voices ([Kind]). A claim is what somebody outside says. A fact is what
// the service that owns the phase says happened. A result is what a service tells itself. Who
// integrates a tool submits claims and receives facts.
//
// # Submitting
//
// [Connect] to the NATS server and [Client.Submit] an event made with [New]:
//
//	client, err := events.Connect("nats://127.0.0.1:4222")
//	…
//	err = client.Submit(ctx, events.New("shop", "42", events.ChangeCreated{…}))
//
// That the server has stored a claim does not mean that anyone believes it. Either the fact
// follows or a [ClaimRefused] with the reason; both carry the claim's id as their cause.
//
// # Receiving
//
// [Client.Subscribe] hands facts to a [Handler], one after the other, in order. Its error is the verdict:
//
//	nil            the event is done
//	an error       try it again, with backoff
//	[Retry]        try it again after this time
//	[Reject]       never again; OnReject is told
//
// Events that come after one which is being tried again wait for it. With [Durable] the
// server remembers how far the handler has come; without it a subscription begins anew, with
// what is stated from now on or [From] a sequence. An event may come twice (a program can end
// between doing and saying so): what a handler does has to bear that, and an event's ID tells.
//
// [Client.Replay] reads what has been stated so far, and ends.
//
// # Testing
//
// Package eventstest builds events and shows what a handler says to them, without a server.
// Package schema judges events by the official JSON schemas.
//
// # On the wire
//
// On the stream an event is in CloudEvents binary mode: attributes as headers, the CDEvent as
// body ([Encode], [Decode]). At the edges it may also be in structured mode ([EncodeStructured],
// [DecodeStructured]) and come over HTTP ([EncodeHTTP], [DecodeHTTP]). Every way in checks
// the structure, answers with an error that its sender can act on, and keeps the body as it
// came. [Event.Subject] and [Partition] say where the stream keeps an event.
//
// A type is never changed once it is out: testdata holds a golden file of each, which has to
// decode for ever.
package events
