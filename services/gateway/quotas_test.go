package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/quota"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/registry"
)

func newBounded(t *testing.T, text string) *world {
	w, _ := newBoundedRegistry(t, text)
	return w
}

func newBoundedRegistry(t *testing.T, text string) (*world, *registry.Registry) {
	t.Helper()
	path := filepath.Join(t.TempDir(), quota.FileName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	quotas, err := quota.Open(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := registry.New(t.TempDir(), registry.Options{Grace: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, func(o *gateway.Options) { o.Quotas, o.Registry = quotas, binaries }), binaries
}

func TestQuotaOfEvents(t *testing.T) {
	w := newBounded(t, "projects:\n  shop: {events-per-day: 3}\n  busy: {events-per-minute: 2}\n")
	send := func(project string, i int) *http.Response {
		t.Helper()
		e := ticket(fmt.Sprint(project, i), "x")
		e.Project = project
		resp, answer := w.send("POST", "/events", said(t, e), "Content-Type", "application/cloudevents+json")
		if resp.StatusCode == http.StatusTooManyRequests && !strings.Contains(answer, "the project "+project+" is limited to") {
			t.Errorf("the reason is %s", answer)
		}
		return resp
	}
	for i := range 5 {
		resp := send("shop", i)
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		if full := i >= 3; (resp.StatusCode == http.StatusTooManyRequests) != full || full && (after < 1 || after > 24*3600+1) {
			t.Errorf("event %d: %d, Retry-After %d", i, resp.StatusCode, after)
		}
		if resp := send("other", i); resp.StatusCode != http.StatusAccepted {
			t.Errorf("a project without a quota: %d", resp.StatusCode)
		}
	}
	refused := 0
	for i := range 5 { // they may fall into two minutes
		if send("busy", i).StatusCode == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 1 || refused > 3 {
		t.Errorf("%d of 5 were refused, with 2 a minute", refused)
	}
	if _, text := w.send("GET", "/metrics", ""); !strings.Contains(text, `lemnis_gateway_quota_refusals_total{project="shop",quota="events"} 2`) {
		t.Error("the metrics do not say it")
	}
	shop := usageOf(t, w)["shop"]
	if got := shop["events in a day"]; got.Limit != 3 || got.Used != 5 {
		t.Errorf("usage of shop: %+v", shop)
	}
}

type used struct{ Used, Limit int64 }

func usageOf(t *testing.T, w *world) map[string]map[string]used {
	t.Helper()
	resp, answer := w.send("GET", "/api/v1/quotas", "")
	var list struct {
		Projects []struct {
			Project string
			Quotas  []struct {
				Of string
				used
			}
		}
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	all := map[string]map[string]used{}
	for _, p := range list.Projects {
		all[p.Project] = map[string]used{}
		for _, q := range p.Quotas {
			all[p.Project][q.Of] = q.used
		}
	}
	return all
}

// Over NATS what waits for tomorrow would keep the principal's other projects from being heard.
func TestQuotaOverNATS(t *testing.T) {
	w := newBounded(t, "projects:\n  shop: {events-per-day: 1}\n")
	js := w.submitter()
	submit := func(project, id string) {
		t.Helper()
		e := ticket(id, "x")
		e.Project = project
		w.submit(js, "submit.local.events", said(t, e), "Content-Type", "application/cloudevents+json")
	}
	submit("shop", "one")
	submit("shop", "two")
	submit("other", "three")
	w.until("the other project is heard", func() bool {
		_, answer := w.send("GET", "/events?project=other", "")
		return strings.Contains(answer, `"three"`)
	})
	w.until("what was too much is a dead letter with its reason", func() bool {
		_, answer := w.send("GET", "/api/v1/deadletters", "")
		return strings.Contains(answer, "the project shop is limited to 1 events in a day")
	})
	if _, answer := w.send("GET", "/events?project=shop", ""); strings.Contains(answer, `"two"`) || !strings.Contains(answer, `"one"`) {
		t.Errorf("of shop: %s", answer)
	}
}

func TestQuotaOfTheRegistry(t *testing.T) {
	w, binaries := newBoundedRegistry(t, "projects:\n  shop: {registry: 20KB}\n")
	address := strings.TrimPrefix(w.url, "http://")
	push := func(repository string) error {
		t.Helper()
		image, err := random.Image(4096, 2) // some 9 KB with its configuration
		if err != nil {
			t.Fatal(err)
		}
		to, err := name.ParseReference(address + "/" + repository)
		if err != nil {
			t.Fatal(err)
		}
		return remote.Write(to, image, remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	}
	for _, repository := range []string{"shop/api:1", "shop/web:1", "free/api:1", "free/api:2", "free/api:3"} {
		if err := push(repository); err != nil {
			t.Fatalf("%s: %v", repository, err)
		}
	}
	if err := push("shop/api:2"); err == nil || !strings.Contains(err.Error(), "TOOMANYREQUESTS") || !strings.Contains(err.Error(), "used up its room of 20000 bytes") {
		t.Errorf("the third image of 9 KB in 20: %v", err)
	}
	resp, answer := w.send("POST", "/v2/shop/api/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64), strings.Repeat("x", 20000))
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, answer)
	}
	all := usageOf(t, w)
	if got := all["shop"]["bytes in the registry"]; got.Limit != 20000 || got.Used < 16000 || got.Used > 20000 {
		t.Errorf("shop uses %+v", got)
	}
	if got := all["free"]["bytes in the registry"]; got.Limit != 0 || got.Used < 24000 {
		t.Errorf("free uses %+v", got)
	}
	if _, text := w.send("GET", "/metrics", ""); !strings.Contains(text, `lemnis_gateway_quota_refusals_total{project="shop",quota="registry"}`) {
		t.Error("the metrics do not say it")
	}
	// Room is made by deleting, once it is collected.
	resp, _ = w.send("GET", "/v2/shop/web/manifests/1", "")
	if resp, answer = w.send("DELETE", "/v2/shop/web/manifests/"+resp.Header.Get("Docker-Content-Digest"), ""); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	if _, err := binaries.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := usageOf(t, w)["shop"]["bytes in the registry"].Used; got > 12000 {
		t.Errorf("after it was deleted shop uses %d", got)
	}
	if err := push("shop/web:2"); err != nil {
		t.Errorf("into the room that was made: %v", err)
	}
}
