package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const mostRebuildRequest = 1 << 10 // bytes

// rebuildRequest is what one phase was asked.
type rebuildRequest struct {
	Phase    events.Phase `json:"phase"`
	ID       string       `json:"id"`       // of the claim
	Sequence uint64       `json:"sequence"` // of the claim
}

// rebuild answers POST /api/v1/rebuilds: {"service": NAME}, a service or a phase. What the owner of a phase is asked is
// reported under /api/v1/rebuilds/{id}; the gateway's own read models are rebuilt when it answers.
func (g *Gateway) rebuild(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Service string `json:"service"`
	}
	body, err := readBody(w, r, mostRebuildRequest)
	if err == nil {
		if failed := json.Unmarshal(body, &ask); failed != nil {
			err = refuse(http.StatusBadRequest, `write {"service": NAME}: %v`, failed)
		}
	}
	var phases []string
	if err == nil && ask.Service != natsd.Gateway {
		if phases = natsd.PhasesOf(ask.Service); len(phases) == 0 {
			err = refuse(http.StatusBadRequest, "%s is no service and no phase", quote(ask.Service))
		}
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer := struct {
		Requests []rebuildRequest `json:"requests,omitempty"`
		Models   []modelRebuilt   `json:"models,omitempty"`
	}{}
	by := access.From(r.Context()).Principal
	content := events.RebuildRequested{Service: ask.Service, By: by}
	if ask.Service == natsd.Gateway {
		if err = g.record(r.Context(), by, ask.Service, content); err == nil {
			answer.Models, err = g.rebuildModels(r)
		}
	}
	for _, phase := range phases {
		e := events.New(noProject, ask.Service, content)
		e.Phase = events.Phase(phase)
		var done receipt
		if done, err = g.say(r.Context(), by, e); err != nil {
			break
		}
		answer.Requests = append(answer.Requests, rebuildRequest{Phase: e.Phase, ID: done.ID, Sequence: done.Sequence})
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, http.StatusOK, "application/json", answer)
}

// rebuildModels rebuilds the read models of this gateway, one request at a time.
func (g *Gateway) rebuildModels(r *http.Request) ([]modelRebuilt, error) {
	if !g.rebuilding.TryLock() {
		return nil, refuse(http.StatusConflict, "a rebuild of the gateway's read models is under way")
	}
	defer g.rebuilding.Unlock()
	if missing := g.Ready(); missing != "" {
		return nil, refuse(http.StatusServiceUnavailable, "the read models are being built as it is: %s", missing)
	}
	index, err := g.index.rebuild(r.Context())
	if err != nil {
		return nil, away(err)
	}
	overview, err := g.overview.rebuild(r.Context(), g.host)
	if err != nil {
		return nil, away(err)
	}
	all := []modelRebuilt{index, overview}
	for _, one := range all {
		say := g.log.Info
		if one.Differing > 0 {
			say = g.log.Error
		}
		say("a read model was built again from the stream", zap.String("model", one.Model), zap.Int("compared", one.Compared),
			zap.Int("differing", one.Differing), zap.Float64("seconds", one.Seconds))
	}
	return all, nil
}

// rebuildState answers GET /api/v1/rebuilds/{id}?after=SEQUENCE: how far the owners of phases have come with what the
// claim with this id, at or behind that place on the stream, asks for.
func (g *Gateway) rebuildState(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 63)
	if err != nil && r.URL.Query().Get("after") != "" {
		g.fail(w, r, refuse(http.StatusBadRequest, "after %s is no sequence", quote(r.URL.Query().Get("after"))))
		return
	}
	states, err := service.RebuildStates(r.Context(), g.host, after, r.PathValue("id"))
	if err == nil && len(states) == 0 {
		err = refuse(http.StatusNotFound, "no owner of a phase has reported on %s yet", quote(r.PathValue("id")))
	}
	var no *refusal
	if err != nil && !errors.As(err, &no) {
		err = away(err)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, http.StatusOK, "application/json", map[string]any{"phases": states})
}
