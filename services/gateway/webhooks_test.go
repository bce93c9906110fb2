package gateway_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

const hookSecret = "kept between the two of us"

// hooked is an installation whose project shop takes webhooks of every kind.
func hooked(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	// The newer secret and the one that it replaces.
	if err := os.WriteFile(filepath.Join(dir, "shop", "hook"), []byte("the newer one\n"+hookSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *gateway.Options) { o.SigningSecrets = dir })
	p := events.DefaultProject("shop")
	p.Repositories = []events.RepositoryRef{
		{Name: "web", URL: "https://github.com/acme/web.git"}, {Name: "cart", URL: "git@gitlab.example.org:acme/platform/cart.git"},
		{Name: "search", URL: "https://git.example.org/acme/search"},
	}
	p.Webhooks = map[events.WebhookKind]events.Webhook{}
	for _, kind := range events.WebhookKinds() {
		p.Webhooks[kind] = events.Webhook{Secret: "secret:hook"}
	}
	w.configure(p)
	lost := p
	lost.Name, lost.Webhooks = "lost", map[events.WebhookKind]events.Webhook{events.GitHub: {Secret: "secret:gone"}}
	w.configure(lost)
	return w
}

// configure states a project's configuration, and waits until the gateway goes by it.
func (w *world) configure(p events.Project) {
	w.t.Helper()
	e := fact(p.Name, p.Name, events.Plan, events.ProjectConfigured{Revision: 1, Project: p})
	e.Aggregate = "configuration"
	sequence := w.state(e)
	w.until("the configuration is known", func() bool {
		var o struct{ Sequence uint64 }
		w.get("/api/v1/overview", &o)
		return o.Sequence >= sequence
	})
}

// payload reads one of the translations' payloads.
func payload(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("webhook", "testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// proof are the headers by which a sender shows that it knows a secret.
func proof(kind, secret, body string) []string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	signature := hex.EncodeToString(mac.Sum(nil))
	switch kind {
	case "github":
		return []string{"X-Hub-Signature-256", "sha256=" + signature}
	case "gitlab":
		return []string{"X-Gitlab-Token", secret}
	case "gitea":
		return []string{"X-Gitea-Signature", signature}
	case "forgejo":
		return []string{"X-Forgejo-Signature", signature}
	}
	return []string{"Authorization", "Bearer " + secret}
}

var eventHeader = map[string]string{"github": "X-GitHub-Event", "gitlab": "X-Gitlab-Event", "gitea": "X-Gitea-Event", "forgejo": "X-Forgejo-Event"}

// hookAnswer is what a sender is told.
type hookAnswer struct {
	Event  string `json:"event"`
	Claims []struct {
		receipt
		Type string `json:"type"`
	} `json:"claims"`
	Detail string `json:"detail"`
}

// deliver sends a webhook to shop as its sender does.
func (w *world) deliver(kind, event, body string, headers ...string) (int, hookAnswer) {
	w.t.Helper()
	all := append([]string{"Content-Type", "application/json"}, headers...)
	if name := eventHeader[kind]; name != "" {
		all = append(all, name, event)
	}
	resp, answer := w.send(http.MethodPost, "/webhooks/"+kind+"/shop", body, all...)
	var a hookAnswer
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		w.t.Fatalf("%d: %q", resp.StatusCode, answer)
	}
	return resp.StatusCode, a
}

func (w *world) metric(line string) bool {
	w.t.Helper()
	_, body := w.send(http.MethodGet, "/metrics", "")
	return strings.Contains(body, line+"\n")
}

// end is the last sequence of the stream.
func (w *world) end() uint64 {
	w.t.Helper()
	s, err := w.host.JS.Stream(w.t.Context(), "LIFECYCLE")
	if err != nil {
		w.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

func TestWebhooksBecomeClaims(t *testing.T) {
	w := hooked(t)
	for _, test := range []struct{ kind, event, file, want, subject, principal string }{
		{"github", "push", "github_push", "repository.modified", "claims.shop.integrate.repository.modified.", "webhook-github"},
		{"github", "pull_request", "github_pull_request_opened", "change.created", "claims.shop.develop.change.created.", "webhook-github"},
		{"github", "pull_request_review", "github_pull_request_review", "change.reviewed", "claims.shop.develop.change.reviewed.", "webhook-github"},
		{"github", "issues", "github_issues_opened", "ticket.created", "claims.shop.plan.ticket.created.", "webhook-github"},
		{"github", "release", "github_release", "artifact.published", "claims.shop.integrate.artifact.published.", "webhook-github"},
		{"github", "workflow_run", "github_workflow_run", "pipelinerun.finished", "claims.shop.integrate.pipelinerun.finished.", "webhook-github"},
		{"github", "deployment_status", "github_deployment_status", "service.deployed", "claims.shop.deploy.service.deployed.", "webhook-github"},
		{"gitlab", "Push Hook", "gitlab_push", "repository.modified", "claims.shop.integrate.repository.modified.", "webhook-gitlab"},
		{"gitlab", "Merge Request Hook", "gitlab_merge_request_merge", "change.merged", "claims.shop.integrate.change.merged.", "webhook-gitlab"},
		{"gitlab", "Issue Hook", "gitlab_issue_close", "ticket.closed", "claims.shop.plan.ticket.closed.", "webhook-gitlab"},
		{"gitlab", "Pipeline Hook", "gitlab_pipeline", "pipelinerun.finished", "claims.shop.integrate.pipelinerun.finished.", "webhook-gitlab"},
		{"gitlab", "Deployment Hook", "gitlab_deployment", "service.deployed", "claims.shop.deploy.service.deployed.", "webhook-gitlab"},
		{"gitea", "pull_request_approved", "gitea_pull_request_approved", "change.reviewed", "claims.shop.develop.change.reviewed.", "webhook-gitea"},
		{"forgejo", "pull_request", "gitea_pull_request_opened", "change.created", "claims.shop.develop.change.created.", "webhook-forgejo"},
		{"alertmanager", "", "alertmanager", "incident.detected", "claims.shop.operate.incident.detected.", "webhook-alertmanager"},
	} {
		t.Run(test.file, func(t *testing.T) {
			body := payload(t, test.file)
			status, a := w.deliver(test.kind, test.event, body, proof(test.kind, hookSecret, body)...)
			if status != http.StatusAccepted || len(a.Claims) == 0 {
				t.Fatalf("%d %+v", status, a)
			}
			e, _, subject := w.stored(a.Claims[0].Sequence)
			if e.Type.Short() != test.want || !strings.HasPrefix(subject, test.subject) || e.Principal != test.principal || e.ID != a.Claims[0].ID || e.Chain == "" || string(e.Type) != a.Claims[0].Type {
				t.Errorf("%s on %s by %s: %+v", e.Type, subject, e.Principal, a)
			}
			// The same delivery again is the same claims.
			end := w.end()
			again, b := w.deliver(test.kind, test.event, body, proof(test.kind, "the newer one", body)...)
			if again != http.StatusOK || len(b.Claims) != len(a.Claims) || w.end() != end {
				t.Fatalf("again: %d %+v", again, b)
			}
			for i := range b.Claims {
				if !b.Claims[i].Duplicate || b.Claims[i].ID != a.Claims[i].ID || b.Claims[i].Sequence != a.Claims[i].Sequence {
					t.Errorf("again: %+v, not %+v", b.Claims[i], a.Claims[i])
				}
			}
		})
	}
}

func TestWebhooksOfStrangers(t *testing.T) {
	w := hooked(t)
	end := w.end()
	opened, alerts := payload(t, "github_pull_request_opened"), payload(t, "alertmanager")
	for name, test := range map[string]struct {
		kind, event, body string
		headers           []string
		want              int
	}{
		"no signature":               {"github", "pull_request", opened, nil, 401},
		"another secret":             {"github", "pull_request", opened, proof("github", "guessed", opened), 401},
		"another body":               {"github", "pull_request", opened + " ", proof("github", hookSecret, opened), 401},
		"half a signature":           {"github", "pull_request", opened, []string{"X-Hub-Signature-256", "sha256=00"}, 401},
		"GitHub with GitLab's proof": {"github", "pull_request", opened, proof("gitlab", hookSecret, opened), 401},
		"no token":                   {"gitlab", "Push Hook", payload(t, "gitlab_push"), nil, 401},
		"another token":              {"gitlab", "Push Hook", payload(t, "gitlab_push"), proof("gitlab", hookSecret+"x", ""), 401},
		"both lines":                 {"gitlab", "Push Hook", payload(t, "gitlab_push"), proof("gitlab", "the newer one "+hookSecret, ""), 401},
		"Gitea":                      {"gitea", "push", payload(t, "gitea_push"), proof("gitea", "guessed", payload(t, "gitea_push")), 401},
		"Forgejo":                    {"forgejo", "push", payload(t, "gitea_push"), nil, 401},
		"no bearer":                  {"alertmanager", "", alerts, nil, 401},
		"another bearer":             {"alertmanager", "", alerts, proof("alertmanager", "guessed", ""), 401},
		"no such sender":             {"svn", "", opened, nil, 404},
	} {
		if status, a := w.deliver(test.kind, test.event, test.body, test.headers...); status != test.want {
			t.Errorf("%s: %d %+v", name, status, a)
		}
	}
	for path, want := range map[string]int{
		"/webhooks/github/other": 401, // takes no webhooks, which is not to be told from a wrong secret
		"/webhooks/github/UPPER": 401,
		"/webhooks/github/lost":  503, // whose secret is not there
	} {
		all := append([]string{"X-GitHub-Event", "pull_request"}, proof("github", hookSecret, opened)...)
		if resp, body := w.send(http.MethodPost, path, opened, all...); resp.StatusCode != want || strings.Contains(body, hookSecret) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if w.end() != end {
		t.Error("something reached the stream")
	}
	if !w.metric(`lemnis_gateway_webhooks_total{kind="github",outcome="unauthorized"} 7`) || !w.metric(`lemnis_gateway_webhooks_total{kind="gitlab",outcome="unauthorized"} 3`) {
		_, body := w.send(http.MethodGet, "/metrics", "")
		t.Error(body)
	}
}

func TestWebhooksThatAreRefused(t *testing.T) {
	w := hooked(t)
	end := w.end()
	opened := payload(t, "github_pull_request_opened")
	foreign := strings.ReplaceAll(opened, "acme/web", "acme/secret")
	untitled := strings.ReplaceAll(payload(t, "github_issues_opened"), `"https://github.com/acme/web/issues/7"`, `""`)
	for name, test := range map[string]struct {
		event, body string
		want        int
	}{
		"another repository":         {"pull_request", foreign, 403},
		"a header of another event":  {"push", opened, 400},
		"an approval out of nothing": {"pull_request_review", opened, 400},
		"no event":                   {"", opened, 400},
		"no JSON":                    {"push", "{", 400},
		"a ticket without address":   {"issues", untitled, 400},
	} {
		if status, a := w.deliver("github", test.event, test.body, proof("github", hookSecret, test.body)...); status != test.want || a.Detail == "" {
			t.Errorf("%s: %d %+v", name, status, a)
		}
	}
	large := strings.Repeat(" ", 25<<20) + "{}"
	if status, _ := w.deliver("github", "push", large, proof("github", hookSecret, large)...); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large one: %d", status)
	}
	if w.end() != end {
		t.Error("something reached the stream")
	}
	// What says nothing of the lifecycle is fine.
	for event, body := range map[string]string{"ping": payload(t, "github_ping"), "pull_request": strings.Replace(opened, `"opened"`, `"labeled"`, 1)} {
		if status, a := w.deliver("github", event, body, proof("github", hookSecret, body)...); status != http.StatusOK || len(a.Claims) != 0 {
			t.Errorf("%s: %d %+v", event, status, a)
		}
	}
}

func TestUnknownWebhooksAreKept(t *testing.T) {
	w := hooked(t)
	type listed struct {
		Deliveries []struct {
			Project, Kind, Event, Text string
			Size                       int
			Body                       map[string]any
		}
		Next *string
	}
	var none listed
	if w.get("/api/v1/webhooks/unknown?project=shop", &none); none.Deliveries == nil || len(none.Deliveries) != 0 {
		t.Errorf("%+v", none)
	}
	body, long := payload(t, "github_star"), `{"forkee":"`+strings.Repeat("x", 300<<10)+`"}`
	for range 2 { // the second is the same
		if status, a := w.deliver("github", "star", body, proof("github", hookSecret, body)...); status != http.StatusAccepted || a.Event != "star" || len(a.Claims) != 0 {
			t.Fatalf("%d %+v", status, a)
		}
	}
	if status, _ := w.deliver("gitea", "fork\u00e9", long, proof("gitea", hookSecret, long)...); status != http.StatusAccepted {
		t.Fatal(status)
	}
	var all listed
	w.get("/api/v1/webhooks/unknown?project=shop", &all)
	if len(all.Deliveries) != 2 {
		t.Fatalf("%+v", all)
	}
	if d := all.Deliveries[0]; d.Project != "shop" || d.Kind != "github" || d.Event != "star" || d.Size != len(body) || d.Body["starred_at"] != "2026-11-24T08:00:00Z" {
		t.Errorf("%+v", d)
	}
	if d := all.Deliveries[1]; d.Kind != "gitea" || d.Size != len(long) || len(d.Text) != 256<<10 {
		t.Errorf("%s %s %d %d", d.Kind, d.Event, d.Size, len(d.Text))
	}
	var other, page listed
	if w.get("/api/v1/webhooks/unknown?project=other", &other); len(other.Deliveries) != 0 {
		t.Errorf("%+v", other)
	}
	if w.get("/api/v1/webhooks/unknown?limit=1", &page); len(page.Deliveries) != 1 || page.Next == nil {
		t.Errorf("%+v", page)
	}
	if !w.metric(`lemnis_gateway_webhooks_total{kind="github",outcome="unknown"} 2`) {
		t.Error("it is not counted")
	}
}

// A full stream takes the first claim of two: the delivery is answered 503, and the same one completes it when there is
// room again.
func TestAPartOfAWebhookIsCompleted(t *testing.T) {
	w := hooked(t)
	body := payload(t, "alertmanager")
	headers := proof("alertmanager", hookSecret, body)
	limit := func(most int64, discard jetstream.DiscardPolicy) {
		t.Helper()
		s, err := w.host.JS.Stream(t.Context(), "LIFECYCLE")
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		if c.MaxMsgs, c.Discard = most, discard; most > 0 {
			c.MaxMsgs += int64(s.CachedInfo().State.Msgs)
		}
		if _, err = w.host.JS.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	limit(1, jetstream.DiscardNew)
	end := w.end()
	resp, answer := w.send(http.MethodPost, "/webhooks/alertmanager/shop", body, append(headers, "Content-Type", "application/json")...)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || w.end() != end+1 {
		t.Fatalf("%d %s, %d behind %d", resp.StatusCode, answer, w.end(), end)
	}
	limit(-1, jetstream.DiscardOld)
	status, a := w.deliver("alertmanager", "", body, headers...)
	if status != http.StatusAccepted || len(a.Claims) != 2 || !a.Claims[0].Duplicate || a.Claims[0].Sequence != end+1 || a.Claims[1].Duplicate || a.Claims[1].Sequence != end+2 {
		t.Fatalf("%d %+v", status, a)
	}
}

// Deliveries of one body at the same time are one: whoever is first with a claim.
func TestWebhooksAtTheSameTime(t *testing.T) {
	w := hooked(t)
	body := payload(t, "alertmanager")
	headers := proof("alertmanager", hookSecret, body)
	var together sync.WaitGroup
	answers := make([]hookAnswer, 8)
	for i := range answers {
		together.Go(func() { _, answers[i] = w.deliver("alertmanager", "", body, headers...) })
	}
	together.Wait()
	stored := map[string]int{}
	for _, a := range answers {
		if len(a.Claims) != 2 {
			t.Fatalf("%+v", a)
		}
		for _, c := range a.Claims {
			stored[fmt.Sprintf("%s@%d", c.ID, c.Sequence)]++
		}
	}
	if len(stored) != 2 {
		t.Errorf("%v", stored)
	}
}
