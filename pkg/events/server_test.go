package events_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/pkg/events"
)

// testServer is a nats-server in this process, without a socket, with the streams of an
// installation: services may do all, the outside what the outside may.
type testServer struct {
	*server.Server
	services jetstream.JetStream
}

func startServer(tb testing.TB) *testServer {
	tb.Helper()
	srv, err := newServer(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(srv.stop)
	return srv
}

func newServer(dir string) (*testServer, error) {
	// The permissions of an outside account, as the design has them. (The embedded server of an
	// installation is stricter still.)
	outside := &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"submit.jenkins.>", "$JS.API.STREAM.INFO.LIFECYCLE", "$JS.API.CONSUMER.CREATE.LIFECYCLE.*.lifecycle.>",
			"$JS.API.CONSUMER.INFO.LIFECYCLE.*", "$JS.API.CONSUMER.DELETE.LIFECYCLE.*", "$JS.API.CONSUMER.MSG.NEXT.LIFECYCLE.*", "$JS.ACK.LIFECYCLE.>",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"lifecycle.>", "_INBOX.>"}},
	}
	s, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true,
		Users: []*server.User{{Username: "services", Password: "s"}, {Username: "jenkins", Password: "j", Permissions: outside}},
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, nats.ErrNoServers
	}
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo("services", "s"))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	for _, cfg := range []jetstream.StreamConfig{
		{
			Name: "LIFECYCLE", Subjects: []string{"claims.*.*.*.*.*", "results.*.*.*.*.*", "lifecycle.*.*.*.*.*"}, AllowDirect: true,
			SubjectTransform: &jetstream.SubjectTransformConfig{
				Source: "*.*.*.*.*.*", Destination: "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}.{{wildcard(5)}}.{{partition(64,6)}}",
			},
		},
		{Name: "SUBMIT_jenkins", Subjects: []string{"submit.jenkins.>"}, Retention: jetstream.WorkQueuePolicy},
	} {
		if _, err := js.CreateStream(context.Background(), cfg); err != nil {
			return nil, err
		}
	}
	return &testServer{s, js}, nil
}

func (s *testServer) stop() {
	s.services.Conn().Close()
	s.Shutdown()
	s.WaitForShutdown()
}

// client connects as the outside principal jenkins.
func (s *testServer) client(tb testing.TB, opts ...events.Option) *events.Client {
	tb.Helper()
	c, err := s.connect(opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func (s *testServer) connect(opts ...events.Option) (*events.Client, error) {
	return events.Connect("", append([]events.Option{
		events.WithPrincipal("jenkins"), events.WithNATS(nats.InProcessServer(s), nats.UserInfo("jenkins", "j")),
	}, opts...)...)
}

// state puts a fact on the stream, as a service does.
func (s *testServer) state(tb testing.TB, e events.Event) uint64 {
	tb.Helper()
	seq, err := s.publish(e)
	if err != nil {
		tb.Fatal(err)
	}
	return seq
}

func (s *testServer) publish(e events.Event) (uint64, error) {
	m, err := events.Encode(e)
	if err != nil {
		return 0, err
	}
	m.Subject = e.Subject(events.Stated)
	ack, err := s.services.PublishMsg(context.Background(), m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}
