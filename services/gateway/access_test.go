package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/access"
	"github.com/lemnis/lemnis/services/gateway/registry"
)

// closed is a gateway that asks for tokens, and the tokens that it was given, by who has them.
type closed struct {
	*world
	tokens *access.Store
	text   map[string]string
}

const serviceText = "a-service-of-this-process"

func newClosed(t testing.TB, change ...func(*gateway.Options)) *closed {
	t.Helper()
	c := &closed{text: map[string]string{}}
	var err error
	all := append([]func(*gateway.Options){func(o *gateway.Options) {
		if c.tokens, err = access.Open(t.Context(), o.Host.JS, 1, nil); err != nil {
			t.Fatal(err)
		}
		binaries, err := registry.New(t.TempDir(), registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Tokens, o.Authenticate, o.Registry = c.tokens, true, binaries
		o.Services = map[string]access.Identity{serviceText: {Principal: "builder", Scopes: scopes(t, "publish:integrate@*", "read@*")}}
	}}, change...)
	c.world = newWorld(t, all...)
	<-c.tokens.Synced()
	var over time.Time
	for name, grants := range map[string][]string{
		"reader":    {"read@shop"},
		"readsall":  {"read@*"},
		"stranger":  {"read@other", "publish@other", "decide:*@other", "admin@other"},
		"builds":    {"publish:integrate@shop"},
		"speaks":    {"publish@shop"},
		"decides":   {"decide:prod@shop"},
		"keeper":    {"admin@shop"},
		"admin":     {"admin"},
		"gone":      {"admin"},
		"late":      {"admin"},
		"turned":    {"admin"},
		"turnedold": {"admin"},
	} {
		expires := time.Time{}
		if name == "late" {
			over = time.Now().Add(200 * time.Millisecond)
			expires = over
		}
		if c.text[name], _, err = c.tokens.Create(t.Context(), access.New{Name: name, Scopes: scopes(t, grants...), By: "test", Expires: expires}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.tokens.Revoke(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.tokens.Rotate(t.Context(), "turned", 0); err != nil { // what is kept of it is the old text
		t.Fatal(err)
	}
	if _, _, err := c.tokens.Rotate(t.Context(), "turnedold", time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shop", "other"} {
		c.state(fact(name, name, events.Plan, events.ProjectConfigured{Revision: 1, Project: events.DefaultProject(name)}))
	}
	c.text["guess"] = c.text["admin"][:len(c.text["admin"])-1] + "."
	c.text["half"] = c.text["admin"][:20]
	c.text["service"] = serviceText
	<-time.After(time.Until(over)) // the late one's time passes
	return c
}

func scopes(t testing.TB, texts ...string) []access.Scope {
	t.Helper()
	s, err := access.ParseScopes(texts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// as makes a request with somebody's token.
func (c *closed) as(who, method, path, body string, headers ...string) (*http.Response, string) {
	c.t.Helper()
	if text, ok := c.text[who]; ok {
		headers = append(headers, "Authorization", "Bearer "+text)
	}
	return c.send(method, path, body, headers...)
}

func said(t testing.TB, e events.Event) string {
	t.Helper()
	e.Source = "/test"
	body, err := events.EncodeStructured(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// The credentials that are nobody's, which no endpoint but the open ones takes.
var nobodies = []string{"none", "guess", "half", "gone", "late", "turned"}

// everybody has a token that is good.
var everybody = []string{"reader", "readsall", "stranger", "builds", "speaks", "decides", "keeper", "admin", "turnedold", "service"}

// Every endpoint, with every kind of credential. An endpoint without a row fails.
func TestEveryEndpoint(t *testing.T) {
	c := newClosed(t)
	const admins = "admin turnedold"
	const cloud = "application/cloudevents+json"
	claim := func(project string, content any) string { return said(t, events.New(project, "x", content)) }
	ticketClaim := func() string { return said(t, ticket("t", "a ticket")) }
	packaged := events.ArtifactPackaged{Change: events.Reference{ID: "1"}}
	// A fact of shop, to be asked for by its id.
	id := func() string {
		f := fact("shop", "t1", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "s", Creator: "ann", URI: "https://example.org/1"}})
		f.ID = "fact-of-shop"
		c.state(f)
		c.until("the index has it", func() bool { r, _ := c.as("admin", "GET", "/events/fact-of-shop", ""); return r.StatusCode == 200 })
		return f.ID
	}()
	subscription := c.subscribe("keeper")
	type try struct {
		method, path, body, contentType string
		allowed                         string // names; "*": everybody known; "all": nobody is asked; "signature": no token helps
		hidden                          bool   // 404 instead of 403: that there is something is not told
	}
	const project = "/v2/shop/api/"
	table := map[string][]try{
		"GET /healthz":        {{"GET", "/healthz", "", "", "all", false}},
		"GET /readyz":         {{"GET", "/readyz", "", "", "all", false}},
		"GET /metrics":        {{"GET", "/metrics", "", "", "all", false}}, // this test is on loopback
		"GET /asyncapi.json":  {{"GET", "/asyncapi.json", "", "", "all", false}},
		"GET /schemas/{$}":    {{"GET", "/schemas/", "", "", "all", false}},
		"GET /schemas/{type}": {{"GET", "/schemas/change.merged", "", "", "all", false}},
		"/":                   {{"GET", "/", "", "", "all", false}, {"GET", "/app.js", "", "", "all", false}, {"GET", "/nothing", "", "", "all", false}},
		"POST /webhooks/{kind}/{project}": {
			{"POST", "/webhooks/github/shop", "{}", "application/json", "signature", false}, {"POST", "/webhooks/gitlab/shop", "{}", "application/json", "signature", false},
			{"POST", "/webhooks/alertmanager/shop", "{}", "application/json", "signature", false},
		},
		"GET /api/v1/webhooks/unknown": {
			{"GET", "/api/v1/webhooks/unknown?project=shop", "", "", "reader readsall keeper service " + admins, false}, {"GET", "/api/v1/webhooks/unknown", "", "", "*", false},
		},
		"GET /events":         {{"GET", "/events?project=shop", "", "", "reader readsall keeper service " + admins, false}, {"GET", "/events", "", "", "readsall service " + admins, false}, {"GET", "/events?chain=c", "", "", "readsall service " + admins, false}},
		"GET /events/stream":  {{"HEAD", "/events/stream?project=shop", "", "", "reader readsall keeper service " + admins, false}, {"HEAD", "/events/stream", "", "", "readsall service " + admins, false}},
		"GET /events/{id...}": {{"GET", "/events/" + id, "", "", "reader readsall keeper service " + admins, true}},
		"POST /events": {
			{"POST", "/events", ticketClaim(), cloud, "speaks keeper " + admins, false},
			{"POST", "/events", claim("shop", packaged), cloud, "builds speaks keeper service " + admins, false},
			{"POST", "/events", claim("shop", events.ApprovalGiven{Environment: "prod", Service: "api"}), cloud, "decides keeper " + admins, false},
			{"POST", "/events", claim("shop", events.ApprovalRefused{Environment: "test", Service: "api"}), cloud, "keeper " + admins, false},
			{"POST", "/events", claim("shop", events.DeploymentAborted{Rollout: events.Rollout{ID: "prod/api@1"}}), cloud, "keeper " + admins, false},
			{"POST", "/events", claim("shop", events.DeploymentRequested{Rollout: events.Rollout{Environment: "prod", Service: "api"}}), cloud, "decides keeper " + admins, false},
			{"POST", "/events", claim("shop", events.ProjectConfigured{Project: events.Project{Name: "shop"}}), cloud, "keeper " + admins, false},
		},
		"GET /subscriptions":  {{"GET", "/subscriptions", "", "", "*", false}}, // shows what may be read: TestSubscriptionsByToken
		"POST /subscriptions": {{"POST", "/subscriptions", `{"protocol":"HTTP","config":{"project":"shop"}}`, "application/json", "keeper " + admins, false}},
		"GET /subscriptions/{id}": {
			{"GET", "/subscriptions/" + subscription, "", "", "reader readsall keeper service " + admins, false},
			{"GET", "/subscriptions/nothing", "", "", "*", false},
		},
		"PUT /subscriptions/{id}":                    {{"PUT", "/subscriptions/" + subscription, `{}`, "application/json", "keeper " + admins, false}},
		"DELETE /subscriptions/{id}":                 {{"DELETE", "/subscriptions/nothing", "", "", "*", false}}, // TestSubscriptionsByToken
		"/subscriptions":                             {{"PUT", "/subscriptions", "", "", "*", false}},
		"/subscriptions/{id}":                        {{"PATCH", "/subscriptions/x", "", "", "*", false}},
		"POST /feedback":                             {{"POST", "/feedback", `{"project":"shop","user":"ann","text":"good"}`, "application/json", "speaks keeper " + admins, false}},
		"/events":                                    {{"PUT", "/events", "", "", "*", false}},
		"/feedback":                                  {{"GET", "/feedback", "", "", "*", false}},
		"/api/":                                      {{"GET", "/api/v9/x", "", "", "*", false}},
		"GET /api/v1/overview":                       {{"GET", "/api/v1/overview?project=shop", "", "", "reader readsall keeper service " + admins, false}, {"GET", "/api/v1/overview", "", "", "*", false}},
		"GET /api/v1/tests/{project}":                {{"GET", "/api/v1/tests/shop", "", "", "reader readsall keeper service " + admins, false}},
		"GET /api/v1/logs/{project}/{run...}":        {{"HEAD", "/api/v1/logs/shop/c1%231", "", "", "reader readsall keeper service " + admins, false}},
		"GET /api/v1/whoami":                         {{"GET", "/api/v1/whoami", "", "", "*", false}},
		"GET /api/v1/deadletters":                    {{"GET", "/api/v1/deadletters", "", "", admins, false}},
		"GET /api/v1/deadletters/{sequence}":         {{"GET", "/api/v1/deadletters/1", "", "", admins, false}},
		"POST /api/v1/deadletters/{sequence}/resend": {{"POST", "/api/v1/deadletters/1/resend", "", "", admins, false}},
		"GET /api/v1/registry.tar":                   {{"GET", "/api/v1/registry.tar", "", "", admins, false}},
		"POST /api/v1/rebuilds":                      {{"POST", "/api/v1/rebuilds", `{"service":"nothing"}`, "application/json", admins, false}},
		"GET /api/v1/rebuilds/{id}":                  {{"GET", "/api/v1/rebuilds/nothing", "", "", admins, false}},
		"GET /api/v1/quotas":                         {{"GET", "/api/v1/quotas", "", "", admins, false}},
		"GET /api/v1/tokens":                         {{"GET", "/api/v1/tokens", "", "", admins, false}},
		"POST /api/v1/tokens":                        {{"POST", "/api/v1/tokens", `{}`, "application/json", admins, false}},
		"DELETE /api/v1/tokens/{name}":               {{"DELETE", "/api/v1/tokens/nobody", "", "", admins, false}},
		"POST /api/v1/tokens/{name}/rotate":          {{"POST", "/api/v1/tokens/nobody/rotate", `{}`, "application/json", admins, false}},
		"/v2/": {
			{"GET", "/v2/", "", "", "*", false},
			{"GET", "/v2/_catalog", "", "", "readsall service " + admins, false},
			{"GET", project + "tags/list", "", "", "reader readsall keeper service " + admins, false},
			{"GET", project + "manifests/v1", "", "", "reader readsall keeper service " + admins, false},
			{"HEAD", project + "blobs/sha256:" + strings.Repeat("0", 64), "", "", "reader readsall keeper service " + admins, false},
			{"POST", project + "blobs/uploads/", "", "", "builds speaks keeper service " + admins, false},
			{"POST", project + "blobs/uploads/?mount=sha256:" + strings.Repeat("0", 64) + "&from=other/api", "", "", "service " + admins, false},
			{"PUT", project + "manifests/v1", "{}", "application/vnd.oci.image.manifest.v1+json", "builds speaks keeper service " + admins, false},
			{"DELETE", project + "manifests/v1", "", "", "keeper " + admins, false},
			{"GET", "/v2/uploads/manifests/v1", "", "", "readsall service " + admins, false}, // a project of that name is not an upload
		},
	}
	for _, pattern := range c.gw.Patterns() {
		tries, ok := table[pattern]
		if !ok {
			t.Errorf("the endpoint %q has no row: say who may use it, here and in access.go", pattern)
		}
		for _, try := range tries {
			t.Run(try.method+" "+try.path, func(t *testing.T) {
				for _, who := range append(slices.Clone(nobodies), everybody...) {
					resp, answer := c.as(who, try.method, try.path, try.body, "Content-Type", try.contentType)
					nobody, denied := slices.Contains(nobodies, who), http.StatusForbidden
					if try.hidden {
						denied = http.StatusNotFound
					}
					allowed := try.allowed == "all" || try.allowed == "*" && !nobody || slices.Contains(strings.Fields(try.allowed), who)
					got := resp.StatusCode
					switch {
					case try.allowed == "signature":
						if got != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
							t.Errorf("%s: %d, want 401 with WWW-Authenticate: %s", who, got, answer)
						}
					case allowed && (got == http.StatusUnauthorized || got == http.StatusForbidden || got >= 500 || try.hidden && got == denied):
						t.Errorf("%s is refused: %d %s", who, got, answer)
					case !allowed && nobody && (got != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == ""):
						t.Errorf("%s: %d, want 401 with WWW-Authenticate: %s", who, got, answer)
					case !allowed && !nobody && got != denied:
						t.Errorf("%s: %d, want %d: %s", who, got, denied, answer)
					case !allowed && got == http.StatusForbidden && try.method != http.MethodHead && !strings.Contains(answer, "needs the scope "):
						t.Errorf("%s is not told which scope is missing: %s", who, answer)
					}
				}
			})
		}
	}
	for _, pattern := range gateway.Rules() {
		if _, ok := table[pattern]; !ok {
			t.Errorf("the rule for %q has no row", pattern)
		}
	}
}

// What is claimed carries the token's name, whatever it says of itself.
func TestPrincipalOfClaims(t *testing.T) {
	c := newClosed(t)
	e := ticket("t1", "a ticket")
	e.Principal = "admin"
	resp, answer := c.as("speaks", "POST", "/events", said(t, e), "Content-Type", "application/cloudevents+json", "Ce-Principal", "admin")
	var got receipt
	if err := json.Unmarshal([]byte(answer), &got); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	if stored, _, _ := c.stored(got.Sequence); stored.Principal != "speaks" {
		t.Errorf("its principal is %q", stored.Principal)
	}
}

// The life of a token over HTTP, and what the audit keeps of it.
func TestTokensOverHTTP(t *testing.T) {
	c := newClosed(t)
	type made struct {
		Name, Token string
		Scopes      []string
	}
	ask := func(method, path, body string, status int) made {
		t.Helper()
		resp, answer := c.as("admin", method, path, body, "Content-Type", "application/json")
		if resp.StatusCode != status {
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, answer)
		}
		var m made
		_ = json.Unmarshal([]byte(answer), &m) // a refusal is none
		return m
	}
	works := func(text string) bool {
		resp, _ := c.send("GET", "/events?project=shop", "", "Authorization", "Bearer "+text)
		return resp.StatusCode == http.StatusOK
	}
	first := ask("POST", "/api/v1/tokens", `{"name":"jenkins","scopes":["read@shop","publish:integrate@shop"]}`, 200)
	if !strings.HasPrefix(first.Token, "lmn_") || !works(first.Token) {
		t.Fatalf("%+v", first)
	}
	ask("POST", "/api/v1/tokens", `{"name":"jenkins","scopes":["read@shop"]}`, 409)
	for _, bad := range []string{
		`{"name":"local","scopes":["read@shop"]}`, `{"name":"builtin","scopes":["read@shop"]}`, `{"name":"webhook-github","scopes":["read@shop"]}`,
		`{"name":"a.b","scopes":["read@shop"]}`, `{"name":"x"}`, `{"name":"x","scopes":["write@shop"]}`, `{"name":"x","scopes":["read@shop"],"expires":"2001-01-01T00:00:00Z"}`, `{"nam":"x"}`,
	} {
		ask("POST", "/api/v1/tokens", bad, 400)
	}
	second := ask("POST", "/api/v1/tokens/jenkins/rotate", `{"grace":"1h"}`, 200)
	if second.Token == first.Token || !works(first.Token) || !works(second.Token) {
		t.Error("both are good while the grace lasts")
	}
	third := ask("POST", "/api/v1/tokens/jenkins/rotate", `{"grace":"0s"}`, 200)
	if works(first.Token) || works(second.Token) || !works(third.Token) {
		t.Error("only the new one is good without grace")
	}
	resp, list := c.as("admin", "GET", "/api/v1/tokens", "")
	if resp.StatusCode != 200 || !strings.Contains(list, `"jenkins"`) || strings.Contains(list, "sha256") || strings.Contains(list, "current") {
		t.Errorf("list: %d %s", resp.StatusCode, list)
	}
	ask("DELETE", "/api/v1/tokens/jenkins", "", 200)
	ask("DELETE", "/api/v1/tokens/jenkins", "", 404)
	if works(third.Token) {
		t.Error("a revoked token works")
	}

	// The audit has each change with who made it; the secret is nowhere: not on the stream, not in the bucket's files.
	var audit page
	resp, answer := c.as("admin", "GET", "/events?type=token.changed&limit=1000", "")
	if err := json.Unmarshal([]byte(answer), &audit); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	var changes []string
	for _, e := range audit.Events {
		changes = append(changes, fmt.Sprint(e["principal"], " ", e["data"].(map[string]any)["subject"].(map[string]any)["content"].(map[string]any)["change"]))
	}
	want := []string{"admin created with read@shop, publish:integrate@shop", "admin rotated; the secret of before is good for 1h0m0s", "admin rotated; the secret of before is good for 0s", "admin revoked"}
	if !slices.Equal(changes, want) {
		t.Errorf("audit %q, want %q", changes, want)
	}
	for _, text := range []string{first.Token, second.Token, third.Token} {
		secret := strings.SplitN(text, "_", 3)[2] // which may hold a "_" itself
		if strings.Contains(answer, secret) {
			t.Error("a secret is on the stream")
		}
		found := false
		err := filepath.WalkDir(c.dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				content, readErr := os.ReadFile(path)
				found = found || readErr == nil && strings.Contains(string(content), secret)
			}
			return nil
		})
		if err != nil || found {
			t.Errorf("a secret is on the disk: %v", err)
		}
	}
}

// Clients of registries send a token as the password of whatever user.
func TestRegistryTakesBasic(t *testing.T) {
	c := newClosed(t)
	for who, want := range map[string]int{"admin": 200, "gone": 401} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/v2/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("anybody", c.text[who])
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", who, resp.StatusCode)
		}
	}
	resp, body := c.send("GET", "/v2/", "")
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") || !strings.Contains(body, `"UNAUTHORIZED"`) {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}

func TestLimits(t *testing.T) {
	c := newClosed(t, func(o *gateway.Options) { o.Limits = access.Limits{Requests: 30, Events: 3} })
	limited := func(resp *http.Response) bool {
		return resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != ""
	}
	for i := range 4 {
		resp, answer := c.as("speaks", "POST", "/events", said(t, ticket(fmt.Sprint("t", i), "x")), "Content-Type", "application/cloudevents+json")
		if limited(resp) != (i == 3) {
			t.Errorf("event %d: %d %s", i, resp.StatusCode, answer)
		}
	}
	// Another project has its own.
	e := ticket("t", "x")
	e.Project = "other"
	if resp, answer := c.as("stranger", "POST", "/events", said(t, e), "Content-Type", "application/cloudevents+json"); resp.StatusCode != 202 {
		t.Errorf("another project: %d %s", resp.StatusCode, answer)
	}
	refused := 0
	for range 62 { // two windows can hold sixty
		if resp, _ := c.as("reader", "GET", "/api/v1/whoami", ""); limited(resp) {
			refused++
		}
	}
	if refused < 2 {
		t.Errorf("%d requests were refused", refused)
	}
	if resp, answer := c.as("admin", "GET", "/api/v1/whoami", ""); resp.StatusCode != 200 {
		t.Errorf("another token: %d %s", resp.StatusCode, answer)
	}
	// What counts is gone: nobody is stopped by that.
	if err := c.folds.Client().Close(); err != nil {
		t.Fatal(err)
	}
	if resp, answer := c.as("reader", "GET", "/api/v1/whoami", ""); resp.StatusCode != 200 {
		t.Errorf("without a store: %d %s", resp.StatusCode, answer)
	}
}

// A token that another gateway has made is looked for, also where word of it does not come; what was revoked is not.
func TestTokenOfAnotherGatewayIsLookedFor(t *testing.T) {
	c := newClosed(t)
	deaf, err := access.Open(t.Context(), c.host.JS, 1, nil) // it is not run
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := c.tokens.Create(t.Context(), access.New{Name: "elsewhere", Scopes: scopes(t, "read@shop")})
	if err != nil {
		t.Fatal(err)
	}
	if who, err := deaf.Authenticate(t.Context(), text); err != nil || who.Principal != "elsewhere" {
		t.Errorf("looked for: %v, %v", who, err)
	}
	gone, _, err := c.tokens.Create(t.Context(), access.New{Name: "gone", Scopes: scopes(t, "read@shop")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.tokens.Revoke(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	other := text[:len(text)-1] + "0" // another secret: a text may end with 0 itself
	if other == text {
		other = text[:len(text)-1] + "4"
	}
	for _, unknown := range []string{gone, other, "lmn_0123456789abcdef_x", "lmn_"} {
		if who, err := deaf.Authenticate(t.Context(), unknown); !errors.Is(err, access.ErrUnknownToken) {
			t.Errorf("%s: %v, %v", unknown, who, err)
		}
	}
}

// A change by another gateway reaches this one.
func TestTokensOfAnotherGateway(t *testing.T) {
	c := newClosed(t)
	other, err := access.Open(t.Context(), c.host.JS, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- other.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	<-other.Synced()
	text, _, err := other.Create(t.Context(), access.New{Name: "elsewhere", Scopes: scopes(t, "read@shop")})
	if err != nil {
		t.Fatal(err)
	}
	works := func() bool {
		resp, _ := c.send("GET", "/events?project=shop", "", "Authorization", "Bearer "+text)
		return resp.StatusCode == 200
	}
	c.until("it is known here", works)
	if err := other.Revoke(t.Context(), "elsewhere"); err != nil {
		t.Fatal(err)
	}
	c.until("it is revoked here", func() bool { return !works() })
}
