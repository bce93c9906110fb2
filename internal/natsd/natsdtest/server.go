package natsdtest

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Start starts a server with all streams for the length of a test, and connects to it as a service.
func Start(tb testing.TB) (*natsd.Server, *nats.Conn, jetstream.JetStream) {
	tb.Helper()
	server, err := natsd.Start(natsd.Options{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Stop)
	nc, err := server.Connect()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := natsd.EnsureStreams(tb.Context(), js, 1); err != nil {
		tb.Fatal(err)
	}
	return server, nc, js
}
