package gateway

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// principalsEvery is how often it is asked who there is.
const principalsEvery = time.Second

// takeFromInboxes takes what principals submit over NATS, whoever they are just now, until ctx ends. Without
// authentication that is the principal local alone.
func (g *Gateway) takeFromInboxes(ctx context.Context) error {
	if !g.authenticated {
		return g.takeFromInbox(ctx, access.Everybody())
	}
	if g.principals == nil {
		<-ctx.Done()
		return nil
	}
	inboxes := &inboxes{gateway: g, running: map[string]runningInbox{}}
	defer inboxes.wait()
	tick := time.NewTicker(principalsEvery)
	defer tick.Stop()
	for {
		all, err := g.principals()
		if err != nil {
			g.log.Error("who submits over NATS can not be read; it stays as it was", zap.Error(err))
		} else {
			inboxes.follow(ctx, all)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// inboxes are those that are being read.
type inboxes struct {
	gateway *Gateway
	running map[string]runningInbox
	group   sync.WaitGroup
}

type runningInbox struct {
	who  access.Identity
	stop context.CancelFunc
}

// follow begins and ends inboxes as there are principals; one whose scopes changed begins anew.
func (b *inboxes) follow(ctx context.Context, all []access.Identity) {
	there := map[string]bool{}
	for _, who := range all {
		there[who.Principal] = true
		if now, ok := b.running[who.Principal]; ok {
			if now.who.Equal(who) {
				continue
			}
			now.stop()
		}
		one, stop := context.WithCancel(ctx)
		b.running[who.Principal] = runningInbox{who, stop}
		b.group.Go(func() { b.gateway.takeFromNewInbox(one, who) })
	}
	for name, r := range b.running {
		if !there[name] {
			r.stop()
			delete(b.running, name)
		}
	}
}

func (b *inboxes) wait() {
	for _, r := range b.running {
		r.stop()
	}
	b.group.Wait()
}

// takeFromNewInbox makes the inbox where it is not there yet.
func (g *Gateway) takeFromNewInbox(ctx context.Context, who access.Identity) {
	for ctx.Err() == nil {
		err := natsd.EnsureSubmit(ctx, g.host.JS, who.Principal, g.host.Replicas)
		if err == nil {
			err = g.takeFromInbox(ctx, who)
		}
		if err != nil && ctx.Err() == nil {
			g.log.Warn("an inbox can not be read; trying again", zap.String("principal", who.Principal), zap.Error(err))
			pause(ctx, time.Second)
		}
	}
}
