package events_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

// exampleServer stands in for an installation: a nats-server in this process.
func exampleServer() (srv *testServer, end func()) {
	dir, err := os.MkdirTemp("", "lemnis-example")
	if err != nil {
		log.Fatal(err)
	}
	srv, err = newServer(dir)
	if err != nil {
		log.Fatal(err)
	}
	return srv, func() { srv.stop(); os.RemoveAll(dir) }
}

func exampleConnect(srv *testServer) *events.Client {
	client, err := events.Connect("nats://127.0.0.1:4222",
		events.WithPrincipal("jenkins"),
		events.WithNATS(nats.UserInfo("jenkins", "j"), nats.InProcessServer(srv))) // the second only because the server is in this process
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// A build server tells of a change.
func ExampleClient_Submit() {
	srv, end := exampleServer()
	defer end()
	client := exampleConnect(srv)
	defer client.Close()

	e := events.New("shop", "42", events.ChangeCreated{
		Description: "Search answers within 300 ms",
		Lemnis:      events.ChangeDetail{Repository: "api", Branch: "faster-search", Head: "4f0c2b6d", Author: "ann", Item: "T-17"},
	})
	if err := client.Submit(context.Background(), e); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("claimed", e.Type.Short())

	err := client.Submit(context.Background(), events.New("Shop!", "42", events.ChangeCreated{}))
	fmt.Println(errors.Is(err, events.ErrInvalidEvent), err)
	// Output:
	// claimed change.created
	// true the event cannot be submitted: project name "Shop!" may hold only a-z, 0-9 and '-'
}

// A chat bot tells of each new work item.
func ExampleClient_Subscribe() {
	srv, end := exampleServer()
	defer end()
	client := exampleConnect(srv)
	defer client.Close()

	told := make(chan string)
	stop, err := client.Subscribe(context.Background(),
		events.Selector{Project: "shop", Phase: events.Plan, Types: []events.Type{"dev.cdevents.ticket.created.0.2.0"}},
		func(_ context.Context, e events.Event) error {
			told <- e.SubjectID + ": " + e.Content.(events.TicketCreated).Summary
			return nil
		},
		events.Durable("chatbot"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	srv.publish(smallFact()) // what the planner does
	fmt.Println(<-told)
	// Output: T-17: Search answers slowly
}

// The error of a handler is its verdict.
func ExampleHandler() {
	srv, end := exampleServer()
	defer end()
	client := exampleConnect(srv)
	defer client.Close()

	done := make(chan struct{})
	tries := 0
	page := func(_ context.Context, e events.Event) error {
		c, ok := e.Content.(events.IncidentDetected)
		if !ok {
			return events.Reject(fmt.Errorf("%s is no incident", e.Type.Short()))
		}
		if tries++; tries == 1 {
			return events.Retry(10*time.Millisecond, errors.New("the pager is busy")) // later events wait
		}
		fmt.Printf("paged at try %d: %s\n", tries, c.Description)
		close(done)
		return nil
	}
	stop, err := client.Subscribe(context.Background(), events.Selector{Project: "shop"}, page,
		events.OnReject(func(_ events.Event, err error) { fmt.Println("passed over:", err) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	incident := events.New("shop", "api-1", events.IncidentDetected{Incident: events.Incident{Description: "one request in five fails"}})
	incident.Source = "/lemnis/operate"
	srv.publish(smallFact())
	srv.publish(incident)
	<-done
	// Output:
	// passed over: ticket.created is no incident
	// paged at try 2: one request in five fails
}

// A report reads what has been stated so far.
func ExampleClient_Replay() {
	srv, end := exampleServer()
	defer end()
	client := exampleConnect(srv)
	defer client.Close()
	for i := range 3 {
		srv.publish(ticket(i))
	}

	for e, err := range client.Replay(context.Background(), events.Selector{Project: "shop", Phase: events.Plan}, 2) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.Sequence, e.Type.Short(), e.Key)
	}
	// Output:
	// 2 ticket.created T-1
	// 3 ticket.created T-2
}

// A handler is tested without a server. This is the body of a test, with its t.
func Example_testing() {
	t := new(testing.B) // stands in for the test's own t
	greet := func(_ context.Context, e events.Event) error {
		if c, ok := e.Content.(events.ChangeMerged); !ok || c.Lemnis.Author == "" {
			return events.Reject(errors.New("nobody to greet"))
		}
		return nil
	}
	verdicts := eventstest.Deliver(t, greet,
		eventstest.Fact(events.ChangeMerged{Lemnis: events.MergeDetail{Author: "ann"}}, eventstest.Key("42")),
		eventstest.Fact(events.ChangeMerged{}, eventstest.Key("43")),
	)
	for _, v := range verdicts {
		fmt.Println(v.Event.Key, v.Action, v.Err)
	}
	// Output:
	// 42 done <nil>
	// 43 reject nobody to greet
}
