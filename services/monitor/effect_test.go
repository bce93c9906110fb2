package monitor

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

func incidentFact() events.Event {
	return events.Event{
		ID: "f-1", Kind: events.Stated, Project: "shop", Phase: events.Operate, Key: "prod/api@7", SubjectID: "prod/api@7", Chain: "deployment", Stored: now,
		Content: events.IncidentDetected{
			Incident: events.Incident{Description: "api in prod fails", Environment: events.Reference{ID: "prod"}, Service: &events.Reference{ID: "api"}},
			Lemnis:   events.IncidentDetail{Severity: "page", Title: "Faster search", Author: "ann"},
		},
	}
}

// send runs the effect against on-call webhooks and returns what it reported.
func send(t *testing.T, o Options, rotas ...events.OnCall) []service.Report {
	t.Helper()
	p := events.DefaultProject("shop")
	p.OnCall = rotas
	o.AlertPause = time.Millisecond
	if o.Allow == nil {
		o.Allow = outward.Allowed{netip.MustParsePrefix("127.0.0.0/8")}
	}
	if o.AlertTimeout == 0 {
		o.AlertTimeout = 2 * time.Second
	}
	var reports []service.Report
	d := New(o)
	job := service.NewJob(incidentFact(), p, 1, func(_ context.Context, r service.Report) error {
		reports = append(reports, r)
		return nil
	})
	if err := d.Effects[0].Do(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	return reports
}

func sent(r service.Report) events.AlertSent { return r.Content.(events.AlertSent) }

func TestAlertReachesWhoeverIsOnDuty(t *testing.T) {
	var keys []string
	var got message
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		if keys = append(keys, r.Header.Get("Idempotency-Key")); len(keys) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer hook.Close()
	var logged []string
	reports := send(t, Options{Log: func(m string, kv ...any) { logged = append(logged, m) }},
		events.OnCall{Name: "first", People: []string{"ann"}, Webhook: hook.URL}, events.OnCall{Name: "second", People: []string{"bo"}})
	if len(reports) != 2 || reports[0].Key != "prod/api@7" || reports[0].Once == reports[1].Once {
		t.Fatalf("%+v", reports)
	}
	if a := sent(reports[0]); !a.Delivered || a.Channel != "webhook" || a.To != "ann" || a.Reason != "" {
		t.Errorf("%+v", a)
	}
	if b := sent(reports[1]); !b.Delivered || b.Channel != "log" || b.To != "bo" {
		t.Errorf("%+v", b)
	}
	if len(keys) != 3 || keys[0] == "" || keys[0] != keys[2] {
		t.Errorf("idempotency keys %q", keys)
	}
	if got.To != "ann" || got.Environment != "prod" || got.Service != "api" || got.Chain != "deployment" || !strings.Contains(got.Text, "Faster search") {
		t.Errorf("%+v", got)
	}
	if len(logged) != 2 {
		t.Errorf("logged %q", logged)
	}
}

func TestAlertsThatAreNotDeliveredSayWhy(t *testing.T) {
	var calls, followed atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer other.Close()
	serve := func(f http.HandlerFunc) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client left
			f(w, r)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, test := range []struct {
		name, webhook, reason string
		calls                 int32
	}{
		{"redirect", serve(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}), "redirects", 1},
		{"refused", serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }), "answers 403", 1},
		{"broken", serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }), "answers 500", 3},
		{"slow", serve(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "can not be reached", 3},
		{"gone", gone.URL, "can not be reached", 0},
		{"no address", "ftp://x", "no http", 0},
		{"no such secret", "secret:../shop/hook", "can not be read", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls.Store(0)
			reports := send(t, Options{AlertTimeout: 50 * time.Millisecond, SecretsDir: t.TempDir()}, events.OnCall{Name: "first", People: []string{"ann"}, Webhook: test.webhook})
			if a := sent(reports[0]); a.Delivered || !strings.Contains(a.Reason, test.reason) || strings.Contains(a.Reason, "127.0.0.1:") && test.name != "gone" {
				t.Errorf("%+v", a)
			}
			if calls.Load() != test.calls || followed.Load() != 0 {
				t.Errorf("%d calls, %d followed", calls.Load(), followed.Load())
			}
		})
	}
	if a := sent(send(t, Options{})[0]); a.Delivered || a.To != "nobody" || a.Reason == "" {
		t.Errorf("%+v", a)
	}
}

// A project's webhook reaches no address that is not public: neither by plain HTTP nor by TLS, nor where a secret says it.
func TestAlertsStayOutOfTheInstallation(t *testing.T) {
	var calls atomic.Int32
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	for _, url := range []string{plain.URL, secure.URL} {
		reports := send(t, Options{Allow: outward.Allowed{}}, events.OnCall{Name: "first", People: []string{"ann"}, Webhook: url})
		if a := sent(reports[0]); a.Delivered || !strings.HasPrefix(a.Reason, "attempt 1: ") || !strings.Contains(a.Reason, "LEMNIS_ALLOW_PRIVATE_SINKS opens a range") {
			t.Errorf("%s: %+v", url, a)
		}
	}
	if calls.Load() > 0 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestAWebhookMayBeASecret(t *testing.T) {
	var calls atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer hook.Close()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "shop", "hook"), []byte(hook.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reports := send(t, Options{SecretsDir: dir}, events.OnCall{Name: "first", People: []string{"ann"}, Webhook: "secret:hook"})
	if a := sent(reports[0]); !a.Delivered || calls.Load() != 1 {
		t.Errorf("%+v", a)
	}
}

func TestProbesTellServiceAndFeature(t *testing.T) {
	var down, searchDown atomic.Bool
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load():
			w.WriteHeader(500)
		case r.URL.Path == "/search" && searchDown.Load():
			w.WriteHeader(404)
		case r.URL.Path == "/healthz":
			w.WriteHeader(404) // a service without it is alive
		}
	}))
	defer api.Close()
	targets := newTargets()
	project := events.DefaultProject("shop")
	project.Features = []events.Feature{{Name: "search", Service: "api", Path: "/search"}, {Name: "other", Service: "web", Path: "/"}}
	targets.apply(events.Event{Project: "shop", Content: events.ProjectConfigured{Project: project}})
	published := events.ServiceDetail{Rollout: events.Rollout{Environment: "prod", Service: "api"}, URL: api.URL}
	targets.apply(events.Event{Project: "shop", Chain: "deployment", Content: events.ServicePublished{Lemnis: published}})
	p := &prober{targets: targets, client: noRedirects(&http.Transport{}), log: func(string, ...any) {}}
	watches := map[string]*watch{}
	rounds := func(n int) string {
		var words []string
		for range n {
			p.round(t.Context(), watches, func(at target, c events.HealthChanged) error {
				if c.P99 < c.P50 || at.chain != "deployment" {
					t.Errorf("%+v %+v", at, c)
				}
				words = append(words, c.Service+c.Feature+" "+c.Status)
				return nil
			})
		}
		return strings.Join(words, ", ")
	}
	for _, step := range []struct {
		down, searchDown bool
		rounds           int
		want             string
	}{
		{false, false, 2, ""},
		{false, false, 8, "api healthy, apisearch healthy"},
		{false, true, 1, ""},
		{false, true, 1, "apisearch degraded"},
		{false, true, 4, "apisearch unhealthy"},
		{false, false, 10, "apisearch degraded, apisearch healthy"},
		{true, false, 10, "api degraded, apisearch degraded, api unhealthy"}, // one incident, not two
	} {
		down.Store(step.down)
		searchDown.Store(step.searchDown)
		if got := rounds(step.rounds); got != step.want {
			t.Errorf("%+v: %s", step, got)
		}
	}
	targets.apply(events.Event{Project: "shop", Content: events.ServiceRemoved{Lemnis: published}})
	if got := rounds(1); got != "" || len(watches) != 0 {
		t.Errorf("%s %v", got, watches)
	}
}
