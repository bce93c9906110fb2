package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/testhistory"
	"github.com/lemnis/lemnis/pkg/events"
)

// testsFrom is how far the history of tests reaches back where nobody says it.
const testsFrom = 14 * 24 * time.Hour

// showTests answers GET /api/v1/tests/{project}: the history of each test case, by the pipeline runs that ended since ?from; of one ?repository,
// and of those cases whose name contains ?name, which have their last results too.
func (g *Gateway) showTests(w http.ResponseWriter, r *http.Request) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		g.fail(w, r, refuse(http.StatusBadRequest, "the query is malformed: %v", err))
		return
	}
	for name := range v {
		switch name {
		case "repository", "name", "from":
		default:
			g.fail(w, r, refuse(http.StatusBadRequest, "the parameter %s is not known; there are repository, name, from", quote(name)))
			return
		}
	}
	q := query{project: r.PathValue("project"), phase: events.Integrate, kinds: []events.Kind{events.Stated}, from: time.Now().Add(-testsFrom).UTC().Truncate(time.Second)}
	ended := events.TypeOf(events.PipelineRunFinished{})
	q.subject, q.predicate = ended.Subject(), ended.Predicate()
	if err := events.ValidProject(q.project); err != nil {
		g.fail(w, r, refuse(http.StatusBadRequest, "%v", err))
		return
	}
	if text := v.Get("from"); text != "" {
		if q.from, err = time.Parse(time.RFC3339Nano, text); err != nil {
			g.fail(w, r, refuse(http.StatusBadRequest, "from %s is no RFC 3339 time, like 2026-01-02T15:04:05Z", quote(text)))
			return
		}
	}
	select { // it is read from the stream, like a log
	case g.readingLogs <- struct{}{}:
		defer func() { <-g.readingLogs }()
	default:
		g.fail(w, r, refuse(http.StatusServiceUnavailable, "%d logs and histories are being read; try again later", cap(g.readingLogs)))
		return
	}
	after, err := g.behind(r.Context(), q.from, 0)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	var h testhistory.History
	_, err = scan(r.Context(), g.host, lifecycle, q.filters(), after, func(m service.Message) bool {
		e, err := m.Event()
		if err != nil {
			g.log.Error("an event can not be read", zap.Uint64("sequence", m.Sequence), zap.Error(err))
			return true
		}
		if q.wants(&e) {
			h.Apply(e)
		}
		return true
	})
	if err != nil {
		g.fail(w, r, away(err))
		return
	}
	tests := []testhistory.Case{}
	for _, c := range h.Cases() {
		if repository := v.Get("repository"); repository != "" && repository != c.Repository || !strings.Contains(c.Name, v.Get("name")) {
			continue
		}
		if v.Get("name") == "" {
			c.Last = nil
		}
		tests = append(tests, c)
	}
	g.write(w, http.StatusOK, "application/json", map[string]any{"from": q.from, "runs": h.Runs, "tests": tests})
}
