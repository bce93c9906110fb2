package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/backup"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
)

// installation is a bus with the streams of an installation, or without.
type installation struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func start(t *testing.T, streams bool) installation {
	t.Helper()
	server, err := natsd.Start(natsd.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return on(t, server, streams, 1)
}

func on(t *testing.T, server *natsd.Server, streams bool, replicas int) installation {
	t.Helper()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if streams {
		if _, err := natsd.EnsureStreams(t.Context(), js, replicas); err != nil {
			t.Fatal(err)
		}
	}
	return installation{nc, js}
}

// message is what has to survive of one.
type message struct {
	sequence uint64
	subject  string
	header   string
	data     string
	stored   time.Time
}

// messages reads a stream up to a sequence.
func (i installation) messages(t *testing.T, stream string, to uint64) []message {
	t.Helper()
	s, err := i.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	var all []message
	for sequence := s.CachedInfo().State.FirstSeq; sequence <= min(to, s.CachedInfo().State.LastSeq); sequence++ {
		m, err := s.GetMsg(t.Context(), sequence)
		if err != nil {
			continue // dropped
		}
		var header strings.Builder
		for _, name := range slices.Sorted(maps.Keys(m.Header)) {
			fmt.Fprintf(&header, "%s=%q ", name, m.Header[name])
		}
		all = append(all, message{m.Sequence, m.Subject, header.String(), string(m.Data), m.Time})
	}
	return all
}

func (i installation) publish(t *testing.T, subject, id string) *jetstream.PubAck {
	t.Helper()
	ack, err := i.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: nats.Header{"Nats-Msg-Id": {id}, "Ce-Id": {id}}, Data: []byte("body of " + id)})
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

// fill puts something into each stream, and work on a durable consumer, some of it unfinished.
func (i installation) fill(t *testing.T, replicas int) {
	t.Helper()
	for n := range 300 {
		i.publish(t, fmt.Sprintf("lifecycle.shop.plan.ticket.created.T-%d", n), fmt.Sprintf("f/%d", n))
	}
	i.publish(t, "deadletter.shop.plan", "d/1")
	i.publish(t, "submit.local.x", "s/1")
	for _, bucket := range []string{"KEYS", "TOKENS", "SUBSCRIPTIONS"} {
		kv, err := i.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket, History: 1, Storage: jetstream.FileStorage, Replicas: replicas})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.PutString(t.Context(), "k", bucket); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"effect-plan-notify", "effect-plan-timers"} {
		c, err := i.js.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{
			Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxDeliver: -1, Replicas: replicas, FilterSubject: "lifecycle.*.plan.ticket.created.*",
		})
		if err != nil {
			t.Fatal(err)
		}
		batch, err := c.Fetch(20)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream <= 10 {
				if err := m.DoubleAck(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// A reader that is there while the copy is made, and will not be when it is restored.
	if _, err := i.js.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Minute}); err != nil {
		t.Fatal(err)
	}
}

func (i installation) consumer(t *testing.T, name string) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := i.js.Consumer(t.Context(), natsd.Lifecycle, name)
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo()
}

// same compares what a backup holds with what it was made of.
func same(t *testing.T, from, to installation, m backup.Manifest) {
	t.Helper()
	for _, s := range m.Streams {
		want, got := from.messages(t, s.Name, s.Last), to.messages(t, s.Name, s.Last+1)
		if !slices.Equal(want, got) {
			t.Errorf("%s: %d messages became %d, or differ", s.Name, len(want), len(got))
		}
		t.Logf("%-20s %d messages up to %d", s.Name, len(got), s.Last)
	}
}

func archiveOf(t *testing.T, from installation, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	if _, err := backup.Create(t.Context(), backup.Source{Conn: from.nc, Version: "test"}, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func putBack(ctx context.Context, path string, to installation) error {
	a, err := backup.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	return backup.Restore(ctx, a, backup.Target{Conn: to.nc})
}

// Events are published and acknowledged while the copy is made: what is restored is a beginning of the stream, and no
// consumer is ahead of it.
func TestUnderLoad(t *testing.T) {
	from := start(t, true)
	from.fill(t, 1)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	begun := make(chan struct{})
	load.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			from.publish(t, fmt.Sprintf("lifecycle.shop.plan.ticket.updated.T-%d", n), fmt.Sprintf("g/%d", n)) //nolint:contextcheck // what is published is published whole
			if n == 50 {
				close(begun)
			}
		}
	})
	behind, err := from.js.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{Durable: "effect-plan-all", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	consuming, err := behind.Consume(func(m jetstream.Msg) { _ = m.Ack() })
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	out := archiveOf(t, from, "a.tar")
	stop()
	load.Wait()
	consuming.Stop()

	to := start(t, false)
	if err := putBack(t.Context(), out, to); err != nil {
		t.Fatal(err)
	}
	a, err := backup.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m := a.Manifest
	same(t, from, to, m)
	if end := from.messages(t, natsd.Lifecycle, 1<<20); end[len(end)-1].sequence <= m.Sequence {
		t.Errorf("nothing was published behind %d: that was no load", m.Sequence)
	}
	identity, err := natsd.EnsureStreams(t.Context(), to.js, 1)
	if err != nil || identity != m.Identity {
		t.Errorf("identity %s, want %s: %v", identity, m.Identity, err)
	}
	forks, err := natsd.ReadForks(t.Context(), to.js)
	if err != nil || len(forks) != 1 || forks[0].After != m.Sequence {
		t.Errorf("forks %v, want one after %d: %v", forks, m.Sequence, err)
	}
	if at := to.consumer(t, "effect-plan-all"); at.Delivered.Stream > m.Sequence || at.AckFloor.Stream > m.Sequence {
		t.Errorf("a consumer is at %d and %d of %d", at.Delivered.Stream, at.AckFloor.Stream, m.Sequence)
	}
	was, is := from.consumer(t, "effect-plan-notify"), to.consumer(t, "effect-plan-notify")
	if is.AckFloor.Stream != was.AckFloor.Stream || is.NumAckPending != was.NumAckPending || is.NumAckPending != 10 {
		t.Errorf("unfinished work became another: %+v, %d; %+v, %d", was.AckFloor, was.NumAckPending, is.AckFloor, is.NumAckPending)
	}
	// All timers are set again from where all of them were set.
	if at := to.consumer(t, "effect-plan-timers"); at.AckFloor.Stream != m.TimerFloors["effect-plan-timers"] || at.NumAckPending != 0 || at.Delivered.Stream != 10 {
		t.Errorf("timers go on at %+v and %+v, %d pending; all were set up to %v", at.Delivered, at.AckFloor, at.NumAckPending, m.TimerFloors)
	}
	st, err := to.js.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().State.Consumers; n != 3 {
		t.Errorf("%d consumers, want the three durable ones", n)
	}
	if ack := to.publish(t, "lifecycle.shop.plan.ticket.created.T-new", "new"); ack.Sequence != m.Sequence+1 {
		t.Errorf("it goes on at %d, not behind %d", ack.Sequence, m.Sequence)
	}
	if err := putBack(t.Context(), out, to); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored over what is there: %v", err)
	}
	if got := to.messages(t, natsd.Lifecycle, 1<<20); uint64(len(got)) != m.Sequence+1 {
		t.Errorf("a refused restore left %d events of %d", len(got), m.Sequence+1)
	}
}

// What is damaged, cut off, or not finished is refused before anything is changed.
func TestDamaged(t *testing.T) {
	from := start(t, true)
	from.fill(t, 1)
	whole := archiveOf(t, from, "a.tar")
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	folder := archiveOf(t, from, "folder")
	flipped := bytes.Clone(text)
	flipped[bytes.Index(flipped, []byte("NATSARC1"))+2000] ^= 1
	to := start(t, false)
	for name, path := range map[string]string{
		"a flipped bit": written(t, flipped), "cut off": written(t, text[:len(text)/2]), "without its end": written(t, text[:len(text)-4096]),
		"no archive": written(t, []byte("hello")), "not there": filepath.Join(t.TempDir(), "none.tar"),
		"a part that is missing": without(t, folder, "streams/LIFECYCLE.snapshot"), "no manifest": without(t, archiveOf(t, from, "second"), backup.ManifestName),
	} {
		err := putBack(t.Context(), path, to)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
		names := to.js.StreamNames(t.Context())
		for stream := range names.Name() {
			t.Errorf("%s: %s is there", name, stream)
		}
	}
	if _, err := backup.Create(t.Context(), backup.Source{Conn: from.nc}, whole); err == nil {
		t.Error("an archive was overwritten")
	}
	if _, err := backup.Create(t.Context(), backup.Source{Conn: to.nc}, filepath.Join(t.TempDir(), "b.tar")); err == nil {
		t.Error("there was nothing to copy")
	}
}

func written(t *testing.T, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.tar")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func without(t *testing.T, folder, part string) string {
	t.Helper()
	if err := os.Remove(filepath.Join(folder, filepath.FromSlash(part))); err != nil {
		t.Fatal(err)
	}
	return folder
}

// The registry's files come along, from a folder or as a tar, and go into an empty one only.
func TestRegistry(t *testing.T) {
	from := start(t, true)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"blobs/sha256/aa": "one", "manifests/shop/api/_manifests/bb": "two", "manifests/shop/api/_tags/v1": "three",
		"uploads/x": "no", "manifests/shop/api/_tags/.part-1": "no",
	} {
		place := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(place, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for kind, source := range map[string]func(context.Context, func(string, func(io.Writer) error) error) error{
		"folder": backup.RegistryFolder(dir),
		"tar": backup.RegistryTar(func(ctx context.Context) (io.ReadCloser, error) {
			var b bytes.Buffer
			return io.NopCloser(&b), backup.WriteTar(ctx, dir, &b)
		}),
	} {
		out := filepath.Join(t.TempDir(), "a.tar")
		if _, err := backup.Create(t.Context(), backup.Source{Conn: from.nc, Registry: source}, out); err != nil {
			t.Fatal(kind, err)
		}
		a, err := backup.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		put := t.TempDir()
		if err := backup.Restore(t.Context(), a, backup.Target{Conn: start(t, false).nc, Registry: put}); err != nil {
			t.Fatal(err)
		}
		files := 0
		if err := filepath.WalkDir(put, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			files++
			name, _ := filepath.Rel(put, path)
			want, _ := os.ReadFile(filepath.Join(dir, name))
			if got, err := os.ReadFile(path); err != nil || len(want) == 0 || !bytes.Equal(got, want) {
				t.Errorf("%s: %s is %q, want %q: %v", kind, name, got, want, err)
			}
			return nil
		}); err != nil || files != 3 {
			t.Errorf("%s: %d files, want 3: %v", kind, files, err)
		}
		empty := start(t, false)
		if err := backup.Restore(t.Context(), a, backup.Target{Conn: empty.nc, Registry: put}); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("%s: into a registry that is not empty: %v", kind, err)
		}
		_ = a.Close()
	}
	cut := backup.RegistryTar(func(ctx context.Context) (io.ReadCloser, error) {
		var b bytes.Buffer
		err := backup.WriteTar(ctx, dir, &b)
		b.Truncate(1024)
		return io.NopCloser(&b), err
	})
	out := filepath.Join(t.TempDir(), "a.tar")
	if _, err := backup.Create(t.Context(), backup.Source{Conn: from.nc, Registry: cut}, out); err == nil {
		t.Error("half a registry was taken for a whole one")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an archive is there although it failed")
	}
}

// A cluster's backup goes into a single server, and that one's into a cluster.
func TestClusterAndBack(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in short mode: a cluster's elections take seconds, so its backup was NOT tried")
	}
	servers, err := natsdtest.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range servers {
			s.Stop()
		}
	})
	cluster := on(t, servers[0], true, 3)
	cluster.fill(t, 3)
	out := archiveOf(t, cluster, "a.tar")
	single := start(t, false)
	if err := putBack(t.Context(), out, single); err != nil {
		t.Fatal(err)
	}
	a, err := backup.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	same(t, cluster, single, a.Manifest)
	if at := single.consumer(t, "effect-plan-notify"); at.AckFloor.Stream != 10 || at.Config.Replicas > 1 {
		t.Errorf("work goes on at %+v with %d replicas", at.AckFloor, at.Config.Replicas)
	}
	back := archiveOf(t, single, "b.tar")
	for _, s := range a.Manifest.Streams {
		if err := cluster.js.DeleteStream(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
	}
	b, err := backup.Open(back)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if err := backup.Restore(t.Context(), b, backup.Target{Conn: cluster.nc, Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	same(t, single, cluster, b.Manifest)
	if _, err := natsd.EnsureStreams(t.Context(), cluster.js, 3); err != nil {
		t.Error(err)
	}
	forks, err := natsd.ReadForks(t.Context(), cluster.js)
	if err != nil || len(forks) != 2 {
		t.Errorf("forks %v, want two: %v", forks, err)
	}
}
