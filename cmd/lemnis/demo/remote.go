package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/lap"
)

// Remote is an installation that runs already, and how it reaches what the demo brings along.
type Remote struct {
	Server string
	Access []api.Option // how to reach it, and as whom
	// Known says that the installation asks who its callers are: then the demo's people get tokens of their own, which needs
	// an administrator's.
	Known bool
	// Origin is a folder for the repository that the installation's builder sees under the same path; empty: a temporary
	// folder, for an installation on this machine.
	Origin string
	// Pager is where the messages of the incident are listened for, host:port, and PagerHost by which name the
	// installation's monitor reaches it.
	Pager, PagerHost string
}

// RunRemote turns the loop once on a running installation, in a project of its own, which stays there.
func RunRemote(ctx context.Context, o Options, r Remote) error {
	if o.Repo != "" && o.Bad == "" {
		return errors.New("a running installation's proxy fails nothing on purpose: --bad has to name a ref that fails under traffic")
	}
	t := &terminal{out: o.Out, began: time.Now()}
	run := strings.ToLower(rand.Text()[:6])
	dir, err := filepath.Abs(filepath.Join(cmp.Or(r.Origin, filepath.Join(os.TempDir(), "lemnis-demo")), run))
	if err != nil {
		return err
	}
	s, err := subject(ctx, o, dir)
	if err != nil {
		return err
	}
	s.Project.Name = s.Project.Name[:min(len(s.Project.Name), 33)] + "-" + run // 40 at most
	client := api.New(r.Server, r.Access...)
	defer client.Close()
	options := lap.Options{Tell: t.tell, Patience: 3, Pager: r.Pager, PagerHost: r.PagerHost}
	if r.Known {
		people := &people{remote: r, admin: client, project: s.Project.Name, known: map[string]person{}}
		defer people.leave(context.WithoutCancel(ctx))
		options.Person = people.speak
	}
	t.say("on the installation at %s, project %s", r.Server, s.Project.Name)
	result, err := lap.New(client, s, options).Run(ctx)
	t.table(result)
	if err != nil {
		return err
	}
	t.close(r.Server, result, true)
	return nil
}

// people are those of the lap, each with a token of its own that ends with the lap.
type people struct {
	remote  Remote
	admin   *api.Client
	project string

	mu    sync.Mutex
	known map[string]person
}

type person struct {
	token  string // its name, which is the principal's
	client *api.Client
}

// speak gives somebody a token when they first say something.
func (p *people) speak(ctx context.Context, name string) (string, *api.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who, there := p.known[name]; there {
		return who.token, who.client, nil
	}
	// The name is new with each attempt: of one whose answer was lost nobody has the text.
	token := p.project + "-" + name + "-" + strings.ToLower(rand.Text()[:4])
	scopes := []string{"publish:develop@" + p.project, "decide:*@" + p.project, "read@" + p.project}
	made, err := p.admin.CreateToken(ctx, token, scopes, time.Now().Add(time.Hour))
	if err != nil {
		return "", nil, fmt.Errorf("a token for %s: %w", name, err)
	}
	who := person{token, api.New(p.remote.Server, append(p.remote.Access[:len(p.remote.Access):len(p.remote.Access)], api.Token(made.Text))...)}
	p.known[name] = who
	return who.token, who.client, nil
}

// leave ends the tokens. One that can not be ended now ends by itself within the hour.
func (p *people) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, who := range p.known {
		_ = p.admin.RevokeToken(ctx, who.token)
		who.client.Close()
	}
}
