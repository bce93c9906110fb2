package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/services/deployer"
)

// Options of a demo; the zero value is the shop's.
type Options struct {
	Repo string // the user's repository, a path or a URL; empty: the shop
	Main string // its main package; found when there is one only
	Bad  string // its ref that fails under traffic; empty: a fault at the proxy
	Path string // its address that answers 2xx; guessed when empty
	Keep bool   // leave it running
	Out  io.Writer
	Log  *zap.Logger
}

// Run turns the loop once and shows it. The error is nil when the lap closed; it wraps [lap.ErrPartial] when the repository
// serves nothing.
func Run(ctx context.Context, o Options) error {
	t := &terminal{out: o.Out, began: time.Now()}
	dir, err := os.MkdirTemp("", "lemnis-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	drill := &deployer.Drill{}
	stack, err := up.New(ctx, up.Options{
		Data: dir, HTTP: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Log: o.Log, Drill: drill, StartTimeout: 5 * time.Second,
		PrivateSinks: outward.Allowed{netip.MustParsePrefix("127.0.0.0/8")}, // of the pager
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() {
		err := stack.Run(running)
		stop(fmt.Errorf("the installation ended: %w", cmp.Or(err, errors.New("by itself")))) // it ends the lap, too
		ended <- err
	}()
	err = t.lap(running, o, stack, drill, dir)
	if cause := context.Cause(running); cause != nil && ctx.Err() == nil {
		return errors.Join(err, cause)
	}
	if o.Keep && running.Err() == nil {
		if err != nil {
			fmt.Fprintf(t.out, "\n%v\n", err)
		}
		fmt.Fprintf(t.out, "\nstill running: dashboard at %s, NATS at %s; Ctrl-C ends it and removes its data\n", stack.URL(), stack.Addresses().NATS)
		select {
		case <-ctx.Done():
		case failed := <-ended:
			return cmp.Or(err, failed)
		}
	}
	stop(nil)
	if failed := <-ended; failed != nil && err == nil {
		err = fmt.Errorf("the installation did not end in order: %w", failed)
	}
	return err
}

// lap turns the loop on a running installation.
func (t *terminal) lap(ctx context.Context, o Options, stack *up.Stack, drill *deployer.Drill, dir string) error {
	s, err := subject(ctx, o, dir)
	if err != nil {
		return err
	}
	if o.Repo != "" && o.Bad == "" {
		s.Break = func(environment, digest string) { drill.Fail(s.Project.Name, environment, digest, fault) }
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-stack.Ready():
	}
	t.say("everything runs in this process: dashboard at %s", stack.URL())
	client := api.New(stack.URL())
	defer client.Close()
	result, err := lap.New(client, s, lap.Options{Tell: t.tell}).Run(ctx)
	t.table(result)
	if err != nil {
		return err
	}
	t.close(stack.URL(), result, o.Keep)
	return nil
}
