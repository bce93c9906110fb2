package natsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// principalKey marks whose consumer it is, in the consumer's metadata.
	principalKey = "lemnis-principal"
	// Consumers of outsiders vanish when nobody has used them for this long.
	defaultInactive = 5 * time.Minute
	maxInactive     = 7 * 24 * time.Hour
	// maxOpened is how many outsiders may make while the server runs.
	maxOpened  = 20_000
	apiTimeout = 5 * time.Second
	apiPrefix  = "$JS.API."
)

// A guard answers the consumer requests of one outside principal, forwarding
// those that are harmless. Members of a cluster share the work.
//
// For each consumer that it made it opens the way for the requests for the
// next message and the acks of just that consumer, so that those, and the
// messages, do not pass through it. (It could not forward them: no client may
// publish with the reply subject of a request from another account.)
type guard struct {
	nc        *nats.Conn
	principal string
	prefix    string // of the subjects it listens on, with the last dot
	outside   *server.Account
	services  *server.Account
	done      chan struct{}
	reopening sync.WaitGroup // opens the consumers of an earlier run

	mu     sync.Mutex
	opened map[string]bool // names of consumers with a way through
	held   held
	facts  []string // prefixes of the filters that it may read by
}

func startGuard(ns *server.Server, nc *nats.Conn, o outsider) (*guard, error) {
	principal := o.name
	g := &guard{
		facts: prefixes(o),
		nc:    nc, principal: principal, prefix: wallPrefix + "." + principal + ".", opened: map[string]bool{},
		done: make(chan struct{}),
	}
	var err error
	if g.outside, err = ns.LookupAccount(accountOf(principal)); err != nil {
		return nil, fmt.Errorf("start the wall: %w", err)
	}
	if g.services, err = ns.LookupAccount(servicesAccount); err != nil {
		return nil, fmt.Errorf("start the wall: %w", err)
	}
	for pattern, handle := range map[string]func(rest string, m *nats.Msg){
		"account": func(_ string, m *nats.Msg) { g.refuse(m, 403, "account info is not open to outsiders") },
		// What the request asks for beside, as the subjects that there are, is
		// left out: they name other projects.
		"stream":   func(_ string, m *nats.Msg) { g.relay(m, "STREAM.INFO."+Lifecycle, nil) },
		"last":     func(_ string, m *nats.Msg) { g.last(m) },
		"create.>": g.create,
		"info.*":   func(name string, m *nats.Msg) { g.ifOwned(name, m, "CONSUMER.INFO.") },
		"delete.*": func(name string, m *nats.Msg) { g.ifOwned(name, m, "CONSUMER.DELETE.") },
	} {
		prefix := g.prefix + strings.TrimRight(pattern, ">*")
		if _, err := nc.QueueSubscribe(g.prefix+pattern, "wall", func(m *nats.Msg) {
			handle(strings.TrimPrefix(m.Subject, prefix), m)
		}); err != nil {
			return nil, fmt.Errorf("start the wall: %w", err)
		}
	}
	// All members open what one of them has made: a way leads through one
	// server only.
	if _, err := nc.Subscribe(g.prefix+"open", func(m *nats.Msg) { _ = g.open(string(m.Data)) }); err != nil {
		return nil, fmt.Errorf("start the wall: %w", err)
	}
	if err := nc.Flush(); err != nil {
		return nil, fmt.Errorf("start the wall: %w", err)
	}
	g.reopening.Go(g.reopen)
	return g, nil
}

func (g *guard) stop() {
	select {
	case <-g.done:
	default:
		close(g.done)
	}
	g.nc.Close()
	g.reopening.Wait()
}

// reopen opens the way for the consumers that are there from before, as soon
// as the stream can be asked, which in a cluster takes an election.
func (g *guard) reopen() {
	for {
		all, err := g.consumers()
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return
		}
		if err == nil {
			for _, c := range all {
				if !g.reads(c.Config.FilterSubject) { // it was let read more once
					_ = g.ask("CONSUMER.DELETE."+Lifecycle+"."+c.Name, nil, &struct{}{})
					continue
				}
				_ = g.open(c.Name)
			}
			return
		}
		select {
		case <-g.done:
			return
		case <-time.After(time.Second):
		}
	}
}

// consumers lists those of the principal.
func (g *guard) consumers() ([]consumerInfo, error) {
	var own []consumerInfo
	for offset := 0; ; {
		var list struct {
			Error     *jetstream.APIError `json:"error"`
			Total     int                 `json:"total"`
			Consumers []consumerInfo      `json:"consumers"`
		}
		if err := g.ask("CONSUMER.LIST."+Lifecycle, fmt.Appendf(nil, `{"offset":%d}`, offset), &list); err != nil {
			return nil, err
		}
		if list.Error != nil {
			return nil, list.Error
		}
		for _, c := range list.Consumers {
			if c.Config.Metadata[principalKey] == g.principal {
				own = append(own, c)
			}
		}
		if offset += len(list.Consumers); offset >= list.Total || len(list.Consumers) == 0 {
			return own, nil
		}
	}
}

// A consumer's name becomes part of subjects and of the server's configuration: one with a wildcard would open everybody's.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

const whichNames = "a consumer's name has 1 to 128 of the characters A to Z, a to z, 0 to 9, _ and -"

// open lets the outside account ask for a consumer's messages and ack them.
// The server offers no way to take an import back, so what a deleted consumer
// leaves is counted, and bounded.
func (g *guard) open(name string) error {
	if !plainName.MatchString(name) {
		return fmt.Errorf("open consumer %q: %s", name, whichNames)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened[name] {
		return nil
	}
	if len(g.opened) >= maxOpened {
		return fmt.Errorf("%d consumers were made by outsiders since the server started, no more until it is started again", maxOpened)
	}
	for _, subject := range []string{nextSubject(name), ackSubject(name)} {
		if err := g.outside.AddServiceImport(g.services, subject, subject); err != nil {
			return fmt.Errorf("open consumer %s: %w", name, err)
		}
	}
	g.opened[name] = true
	g.held.add(name)
	return nil
}

// create lets a pull consumer with one filter on facts through. What it
// forwards is written anew from the decoded configuration: a field that it
// does not know, or a second spelling of one that it does, does not reach the
// server.
func (g *guard) create(rest string, m *nats.Msg) {
	name, filter, _ := strings.Cut(rest, ".")
	var req struct {
		Stream string                   `json:"stream_name"`
		Config jetstream.ConsumerConfig `json:"config"`
		Action string                   `json:"action,omitempty"`
	}
	if err := json.Unmarshal(m.Data, &req); err != nil {
		g.refuse(m, 400, "consumer request is not readable: "+err.Error())
		return
	}
	c := &req.Config
	if reason := g.whyNot(name, filter, req.Stream, c); reason != "" {
		g.refuse(m, 403, reason)
		return
	}
	switch owner, err := g.owner(name); {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		// Only a new one may come of it, even if a service is just making
		// one of that name.
		if req.Action == "" {
			req.Action = "create"
		}
		if err := g.roomForOneMore(); err != nil {
			g.refuse(m, 429, err.Error())
			return
		}
	case err != nil:
		g.refuse(m, 503, err.Error())
		return
	case owner != g.principal:
		g.refuse(m, 403, "the consumer belongs to somebody else")
		return
	}
	if c.InactiveThreshold <= 0 {
		c.InactiveThreshold = defaultInactive
	}
	c.InactiveThreshold = min(c.InactiveThreshold, maxInactive)
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[principalKey] = g.principal
	c.Replicas, c.SampleFrequency, c.PauseUntil = 0, "", nil
	c.PriorityGroups, c.PriorityPolicy, c.PinnedTTL = nil, 0, 0
	body, err := json.Marshal(req)
	if err != nil {
		g.refuse(m, 400, err.Error())
		return
	}
	// The way is opened for a consumer that is there, and before its maker knows of it.
	made, err := g.nc.Request(apiPrefix+"CONSUMER.CREATE."+Lifecycle+"."+name+"."+filter, body, apiTimeout)
	if err != nil {
		g.refuse(m, 503, err.Error())
		return
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(made.Data, &answer); err == nil && answer.Error == nil {
		if err := g.open(name); err != nil {
			_, _ = g.nc.Request(apiPrefix+"CONSUMER.DELETE."+Lifecycle+"."+name, nil, apiTimeout) // else it goes when nobody reads it
			g.refuse(m, 429, err.Error())
			return
		}
		g.publish(g.prefix+"open", []byte(name))
	}
	g.answer(m, made.Data)
}

func (g *guard) whyNot(name, filter, stream string, c *jetstream.ConsumerConfig) string {
	switch {
	case stream != Lifecycle:
		return "the request names another stream"
	case !plainName.MatchString(name):
		return whichNames
	case strings.Contains(name, "-") && !strings.HasPrefix(name, g.principal+"-"):
		return "a consumer's name either starts with " + g.principal + "- or has no hyphen"
	case c.Name != "" && c.Name != name, c.Durable != "" && c.Durable != name:
		return "the request names another consumer than its subject"
	case !g.reads(filter) || c.FilterSubject != filter || len(c.FilterSubjects) > 0:
		return "a consumer needs one filter under lifecycle. and a project that may be read, the same in subject and configuration"
	case c.DeliverSubject != "" || c.DeliverGroup != "" || c.FlowControl || c.IdleHeartbeat != 0 || c.RateLimit != 0:
		return "only pull consumers are open to outsiders"
	}
	return ""
}

// setFacts changes what may be read from now on; consumers that read more go.
// The guard's lock is held.
func (g *guard) setFacts(facts []string) {
	if slices.Equal(g.facts, facts) {
		return
	}
	g.facts = facts
	g.reopening.Go(g.reopen)
}

// prefixes are those of the filters that an outsider may read by.
func prefixes(o outsider) []string {
	var all []string
	for _, subject := range o.facts() {
		all = append(all, strings.TrimSuffix(subject, ">"))
	}
	return all
}

func (g *guard) reads(filter string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.facts, func(prefix string) bool { return strings.HasPrefix(filter, prefix) })
}

func (g *guard) ifOwned(name string, m *nats.Msg, operation string) {
	owner, err := g.owner(name)
	if err == nil && owner == g.principal {
		err = g.open(name)
	} else if err == nil {
		err = jetstream.ErrConsumerNotFound
	}
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		// Spelt as the server does, so that clients know it.
		g.fail(m, jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeConsumerNotFound, Description: "consumer not found"})
	case err != nil:
		g.refuse(m, 503, err.Error())
	default:
		if operation == "CONSUMER.DELETE." {
			g.held.drop(name)
		}
		g.relay(m, operation+Lifecycle+"."+name, nil)
	}
}

// publish may only fail because the connection is closing, and then there is
// nobody left to tell.
func (g *guard) publish(subject string, data []byte) { _ = g.nc.Publish(subject, data) }

type consumerInfo struct {
	Error  *jetstream.APIError `json:"error"`
	Name   string              `json:"name"`
	Config struct {
		Metadata      map[string]string `json:"metadata"`
		FilterSubject string            `json:"filter_subject"`
	} `json:"config"`
}

func (g *guard) owner(name string) (string, error) {
	var info consumerInfo
	if err := g.ask("CONSUMER.INFO."+Lifecycle+"."+name, nil, &info); err != nil {
		return "", err
	}
	if info.Error != nil {
		if info.Error.ErrorCode == jetstream.JSErrCodeConsumerNotFound {
			return "", jetstream.ErrConsumerNotFound
		}
		return "", info.Error
	}
	return info.Config.Metadata[principalKey], nil
}

func (g *guard) ask(operation string, body []byte, answer any) error {
	m, err := g.nc.Request(apiPrefix+operation, body, apiTimeout)
	if err != nil {
		return fmt.Errorf("ask the stream: %w", err)
	}
	return json.Unmarshal(m.Data, answer)
}

func (g *guard) relay(m *nats.Msg, operation string, body []byte) {
	answer, err := g.nc.Request(apiPrefix+operation, body, apiTimeout)
	if err != nil {
		g.refuse(m, 503, err.Error())
		return
	}
	g.answer(m, answer.Data)
}

func (g *guard) refuse(m *nats.Msg, code int, reason string) {
	g.fail(m, jetstream.APIError{Code: code, Description: "lemnis: " + reason})
}

func (g *guard) fail(m *nats.Msg, e jetstream.APIError) {
	body, err := json.Marshal(map[string]any{"type": "io.nats.jetstream.api.v1.error_response", "error": e})
	if err != nil {
		return
	}
	g.answer(m, body)
}

func (g *guard) answer(m *nats.Msg, body []byte) {
	if m.Reply != "" {
		g.publish(m.Reply, body)
	}
}
