package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/cmd/lemnis/reach"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// look is what the checks of the bus share.
type look struct {
	*round
	js        jetstream.JetStream
	clustered bool
	lifecycle *jetstream.StreamInfo
}

// bus looks at NATS and what is kept there.
func (r *round) bus(ctx context.Context) {
	var b *reach.Bus
	r.examine(ctx, "bus", func(context.Context) {
		var err error
		if b, err = reach.Running(r.options.Bus); err != nil {
			r.find(Error, "without the bus nothing goes on", "start it, or name it with --nats and --nats-key; without them --data names the folder of `lemnis up`", "the bus can not be looked at: %v", err)
			return
		}
		rtt, err := b.Conn.RTT()
		if err != nil {
			r.find(Error, "without the bus nothing goes on", "look at the server's log", "the bus does not answer: %v", err)
			return
		}
		r.says("nats-server %s answers in %s", b.Conn.ConnectedServerVersion(), rtt.Round(10*time.Microsecond))
		if tls, err := b.Conn.TLSConnectionState(); err == nil && len(tls.PeerCertificates) > 0 {
			r.expires("the bus", tls.PeerCertificates[0].NotAfter)
		}
	})
	if b == nil {
		return
	}
	defer b.Close()
	js, err := jetstream.New(b.Conn)
	if err != nil {
		return
	}
	l := &look{round: r, js: js, clustered: b.Conn.ConnectedClusterName() != ""}
	for _, one := range []struct {
		name string
		do   func(context.Context)
	}{{"storage", l.storage}, {"streams", l.streams}, {"consumers", l.consumers}, {"owners", l.owners}, {"dead letters", l.deadLetters}} {
		r.examine(ctx, one.name, one.do)
	}
}

// storage asks how much room the account has left.
func (l *look) storage(ctx context.Context) {
	info, err := l.js.AccountInfo(ctx)
	if err != nil {
		l.skip("%v", err)
		return
	}
	l.says("%.1f MiB used", float64(info.Store)/(1<<20))
	if most := info.Limits.MaxStore; most > 0 {
		used := float64(info.Store) / float64(most)
		l.says("of %.1f MiB", float64(most)/(1<<20))
		if used > 0.8 {
			severity := Warning
			if used > 0.95 {
				severity = Error
			}
			l.find(severity, "a full store refuses every claim and every fact", "raise max_file_store of the server or the account's limit, after giving it the disk", "%.0f %% of the bus's storage is used", 100*used)
		}
	}
}

// streams compares each stream with what it should be.
func (l *look) streams(ctx context.Context) {
	replicas := 1
	if st, err := l.js.Stream(ctx, natsd.Lifecycle); err == nil {
		replicas = st.CachedInfo().Config.Replicas
	}
	for _, want := range natsd.Shapes(replicas) {
		asked := time.Now()
		st, err := l.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			l.find(Error, "nothing can be said or stated without it", "start any service: it makes the streams; if it was lost, `lemnis restore` a backup first", "the stream %s is not there", want.Name)
			continue
		}
		if err != nil {
			l.find(Error, "nothing can be said or stated without it", "look at the servers of the cluster: does a majority run?", "the stream %s can not be asked: %v", want.Name, err)
			continue
		}
		info := st.CachedInfo()
		if want.Name == natsd.Lifecycle {
			l.lifecycle = info
			took := time.Since(asked)
			l.skewed("the bus", info.TimeStamp.Sub(asked.Add(took/2)), took)
			l.says("%d events, %.1f MiB", info.State.Msgs, float64(info.State.Bytes)/(1<<20))
			if info.Config.Metadata[natsd.IdentityKey] == "" {
				l.find(Error, "ids of facts are made of it", "move the foreign stream away, and start a service", "the stream %s was made by something else", want.Name)
			}
		}
		for _, deviation := range natsd.Deviations(info.Config, want) {
			l.find(Error, "the services rely on it", "restart a service: it mends what can be changed; what can not needs a backup, an empty stream and a restore", "stream %s: %s", want.Name, deviation)
		}
		if limits := natsd.Dropping(info.Config); len(limits) > 0 {
			l.find(Error, "events that are dropped are missing in every fold that is built anew", "nats stream edit "+want.Name+" --max-age=-1 --max-msgs=-1 --max-bytes=-1 --max-msgs-per-subject=-1", "stream %s drops what it holds: limit of %s", want.Name, strings.Join(limits, ", "))
		}
		l.members(info)
	}
	if l.clustered && replicas < 3 {
		l.find(Warning, "the loss of one server loses the events that only it has", "set LEMNIS_REPLICAS=3 for all services, and restart them", "the streams have %d replicas in a cluster", replicas)
	}
}

// members looks at the servers that hold a stream.
func (l *look) members(info *jetstream.StreamInfo) {
	if info.Cluster == nil || info.Config.Replicas < 2 {
		return
	}
	if info.Cluster.Leader == "" {
		l.find(Error, "nothing can be published to it", "bring back a majority of the servers", "stream %s has no leader", info.Config.Name)
	}
	for _, peer := range info.Cluster.Replicas {
		if peer.Offline || !peer.Current {
			state := "is behind"
			if peer.Offline {
				state = "is away"
			}
			l.find(Warning, "with one more server lost, the stream has no majority", "start the server, or look at its log", "the replica of %s on %s %s", info.Config.Name, peer.Name, state)
		}
	}
}

// most is how many facts may wait for an effect before it is said.
const most = 1000

// consumers looks at who waits for whom.
func (l *look) consumers(ctx context.Context) {
	n := 0
	for _, stream := range []string{natsd.Lifecycle, natsd.Timers} {
		st, err := l.js.Stream(ctx, stream)
		if err != nil {
			l.skip("%v", err)
			continue
		}
		all := st.ListConsumers(ctx)
		for c := range all.Info() {
			if c.Config.Durable == "" {
				continue
			}
			n++
			l.consumer(c)
		}
		if err := all.Err(); err != nil {
			l.skip("%v", err)
		}
	}
	l.says("%d durable", n)
}

func (l *look) consumer(c *jetstream.ConsumerInfo) {
	own := strings.HasPrefix(c.Name, "effect-") || strings.HasPrefix(c.Name, "fired-")
	switch {
	case own && c.NumPending > 0 && c.NumWaiting == 0 && c.NumAckPending == 0:
		l.find(Error, "what was asked for is not done", "start the service of the phase in the consumer's name", "nobody works for %s: %d wait", c.Name, c.NumPending)
	case c.NumPending > most:
		l.find(Warning, "what was asked for is done late", "start more processes of the service, or look at what its effect waits for", "%s is behind: %d wait", c.Name, c.NumPending)
	}
}

// silent is how long an owner may not have renewed its lease: it does so some three times in five seconds.
const silent = 15 * time.Second

// owners looks whether each phase is decided by somebody.
func (l *look) owners(ctx context.Context) {
	if _, err := l.js.KeyValue(ctx, natsd.Leases); err != nil {
		l.find(Error, "nobody can decide anything without leases", "start any service: it makes the bucket", "the bucket %s can not be opened: %v", natsd.Leases, err)
		return
	}
	owned := 0
	for _, phase := range events.Phases() {
		mend := fmt.Sprintf("start %s, or `lemnis up`", program(phase))
		why := "claims of the phase wait, and what follows from them"
		entry, err := natsd.Latest(ctx, l.js, natsd.Leases, string(phase)) // a copy that is behind would have its owner silent
		var held struct {
			Owner string `json:"owner"`
			Floor uint64 `json:"floor"`
		}
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			l.find(Error, why, mend, "nobody has ever decided the phase %s", phase)
			continue
		case err != nil:
			l.skip("%s: %v", phase, err)
			continue
		case json.Unmarshal(entry.Value, &held) != nil:
			l.find(Error, why, "lemnis restore a backup, or delete the key: the next owner folds anew", "the lease of %s can not be read", phase)
			continue
		}
		age := time.Since(entry.Time)
		if l.lifecycle != nil { // by the bus's own clock
			age = l.lifecycle.TimeStamp.Sub(entry.Time)
		}
		switch {
		case held.Owner == "":
			l.find(Error, why, mend, "nobody decides the phase %s: its last owner has ended", phase)
		case age > silent:
			l.find(Error, why, mend+"; if one runs, look at its log", "the owner of the phase %s is silent for %s", phase, age.Round(time.Second))
		default:
			owned++
		}
	}
	l.says("%d of %d phases are decided", owned, len(events.Phases()))
}

func program(phase events.Phase) string {
	names := map[events.Phase]string{
		events.Plan: "planner", events.Develop: "builder", events.Integrate: "builder", events.Deploy: "deployer", events.Operate: "monitor", events.Learn: "feedback",
	}
	return "lemnis-" + names[phase]
}

// deadLetters counts what failed for good, and says why the last did.
func (l *look) deadLetters(ctx context.Context) {
	st, err := l.js.Stream(ctx, natsd.DeadLetter)
	if err != nil {
		l.skip("%v", err)
		return
	}
	state := st.CachedInfo().State
	l.says("%d", state.Msgs)
	if state.Msgs == 0 {
		return
	}
	reason := ""
	if m, err := st.GetMsg(ctx, state.LastSeq); err == nil {
		reason = ", the last because " + m.Header.Get("Lemnis-Reason")
		if !slices.Contains(m.Header.Values("Lemnis-Reason"), "") && len(reason) > 200 {
			reason = reason[:200] + "…"
		}
	}
	l.find(Warning, "each is something that somebody asked for and that was not done", "lemnis deadletters list, and resend those whose reason is gone", "%d dead letters%s", state.Msgs, reason)
}
