package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const mostTokenRequest = 16 << 10 // bytes

// noProject is the project of what concerns none: services pass over it.
const noProject = "_"

// newTokenAnswer is the one answer that holds a token's text.
type newTokenAnswer struct {
	access.Token
	Text string `json:"token"`
}

// whoami answers GET /api/v1/whoami.
func (g *Gateway) whoami(w http.ResponseWriter, r *http.Request) {
	who := access.From(r.Context())
	g.write(w, http.StatusOK, "application/json", struct {
		Principal     string         `json:"principal"`
		Scopes        []access.Scope `json:"scopes"`
		Authenticated bool           `json:"authenticated"`
	}{who.Principal, who.Scopes, g.authenticated})
}

// listTokens answers GET /api/v1/tokens.
func (g *Gateway) listTokens(w http.ResponseWriter, r *http.Request) {
	if err := g.haveTokens(r.Context()); err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, http.StatusOK, "application/json", map[string][]access.Token{"tokens": g.tokens.List()})
}

// createToken answers POST /api/v1/tokens.
func (g *Gateway) createToken(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Name    string   `json:"name"`
		Scopes  []string `json:"scopes"`
		Expires string   `json:"expires"` // RFC 3339; empty: never
	}
	if err := g.readToken(w, r, &ask); err != nil {
		g.fail(w, r, err)
		return
	}
	n := access.New{Name: ask.Name, By: access.From(r.Context()).Principal}
	var err error
	if n.Scopes, err = access.ParseScopes(ask.Scopes); err == nil {
		err = access.CheckName(n.Name)
	}
	if err == nil && ask.Expires != "" {
		n.Expires, err = time.Parse(time.RFC3339, ask.Expires)
	}
	if err == nil && !n.Expires.IsZero() && !n.Expires.After(time.Now()) {
		err = fmt.Errorf("expires %s is over already", ask.Expires)
	}
	if err != nil {
		g.fail(w, r, refuse(http.StatusBadRequest, "%v", err))
		return
	}
	change := "created with " + strings.Join(ask.Scopes, ", ")
	if ask.Expires != "" {
		change += " until " + ask.Expires
	}
	g.changeToken(w, r, n.Name, change, func(ctx context.Context) (any, error) {
		text, t, err := g.tokens.Create(ctx, n)
		return newTokenAnswer{t, text}, err
	})
}

// rotateToken answers POST /api/v1/tokens/{name}/rotate.
func (g *Gateway) rotateToken(w http.ResponseWriter, r *http.Request) {
	ask := struct {
		Grace string `json:"grace"` // as Go writes durations
	}{"24h"}
	if err := g.readToken(w, r, &ask); err != nil {
		g.fail(w, r, err)
		return
	}
	grace, err := time.ParseDuration(ask.Grace)
	if err != nil || grace < 0 || grace > access.MostGrace {
		g.fail(w, r, refuse(http.StatusBadRequest, "grace %s is no time from 0s to %s", quote(ask.Grace), access.MostGrace))
		return
	}
	name := r.PathValue("name")
	g.changeToken(w, r, name, "rotated; the secret of before is good for "+grace.String(), func(ctx context.Context) (any, error) {
		text, t, err := g.tokens.Rotate(ctx, name, grace)
		return newTokenAnswer{t, text}, err
	})
}

// revokeToken answers DELETE /api/v1/tokens/{name}.
func (g *Gateway) revokeToken(w http.ResponseWriter, r *http.Request) {
	if err := g.haveTokens(r.Context()); err != nil {
		g.fail(w, r, err)
		return
	}
	name := r.PathValue("name")
	g.changeToken(w, r, name, "revoked", func(ctx context.Context) (any, error) {
		return map[string]string{"revoked": name}, g.tokens.Revoke(ctx, name)
	})
}

// haveTokens waits until the tokens are known.
func (g *Gateway) haveTokens(ctx context.Context) error {
	if g.tokens == nil {
		return refuse(http.StatusNotFound, "this gateway keeps no tokens")
	}
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	select {
	case <-g.tokens.Synced():
		return nil
	case <-ctx.Done():
		return errAway
	}
}

func (g *Gateway) readToken(w http.ResponseWriter, r *http.Request, into any) error {
	if err := g.haveTokens(r.Context()); err != nil {
		return err
	}
	body, err := readBody(w, r, mostTokenRequest)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "not understood: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "not understood: something follows the JSON object")
	}
	return nil
}

// changeToken puts the change on the stream, then makes it: what can not be recorded is not done.
func (g *Gateway) changeToken(w http.ResponseWriter, r *http.Request, name, change string, do func(context.Context) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), publishTimeout)
	defer cancel()
	there, err := g.tokens.Has(ctx, name)
	switch creating := strings.HasPrefix(change, "created"); {
	case err != nil:
		err = away(err)
	case creating && there:
		err = refuse(http.StatusConflict, "%v: %s", access.ErrExists, name)
	case !creating && !there:
		err = refuse(http.StatusNotFound, "%v: %s", access.ErrNotFound, quote(name))
	}
	if err == nil {
		err = g.record(ctx, access.From(r.Context()).Principal, name, events.TokenChanged{Token: name, Change: change})
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer, err := do(ctx)
	if errors.Is(err, access.ErrExists) {
		err = refuse(http.StatusConflict, "%v", err)
	}
	if err != nil {
		g.fail(w, r, away(err))
		return
	}
	g.write(w, http.StatusOK, "application/json", answer)
}

// record puts a claim for the audit on the stream: of no project, so that no service answers it.
func (g *Gateway) record(ctx context.Context, principal, key string, content any) error {
	e := events.New(noProject, key, content)
	e.Phase = events.Plan
	_, err := g.say(ctx, principal, e)
	return err
}

// say puts a claim of the gateway's own on the stream, in the name of whoever asked for it.
func (g *Gateway) say(ctx context.Context, principal string, e events.Event) (receipt, error) {
	e.Type = events.TypeOf(e.Content)
	e.Source, e.Principal, e.Chain = "/gateway", principal, e.ID
	e.TraceParent = events.TraceContext(e.Project, e.Chain, e.ID)
	body, err := e.AppendBody(nil)
	if err != nil {
		return receipt{}, err
	}
	m := events.EncodeWith(e, body)
	m.Subject = e.Subject(events.Claim)
	id := messageID(e.Type, principal, e.Source, e.ID)
	m.Header["Nats-Msg-Id"] = []string{id}
	return g.put(ctx, claim{event: e, message: m, id: id})
}
