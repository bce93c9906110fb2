package command_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
)

func TestMistypedSubscriptions(t *testing.T) {
	tests := []struct{ line, want string }{
		{"subscriptions add --sink https://example.org/", "--project"},
		{"subscriptions add --project p", "--sink URL or --nats NAME"},
		{"subscriptions add --project p --sink https://example.org/ --nats x", "--sink URL or --nats NAME"},
		{"subscriptions add --project p --nats x --type chnge.merged", `"change.merged"`},
		{"subscriptions add --project p --sink https://example.org/ --filter type", "ATTRIBUTE=VALUE"},
		{"subscriptions add --project p --sink https://example.org/ --header X-Token", "NAME=VALUE"},
		{"subscriptions add --snik https://example.org/", `"--sink"`},
		{"subscriptions show", "ID is missing"},
		{"subscriptions remvoe x", `"remove"`},
		{"up --allow-private-sinks 10.0.0.0/99", "--allow-private-sinks"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			t.Setenv("LEMNIS_PROJECT", "")
			if code, _, complaint := lemnis(t.Context(), strings.Fields(test.line)...); code != 2 || !strings.Contains(complaint, test.want) {
				t.Errorf("exit %d: %s", code, complaint)
			}
		})
	}
}

func TestSubscriptions(t *testing.T) {
	stack, stop := uptest.Run(t, up.Options{PrivateSinks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer stop()
	t.Setenv("LEMNIS_PROJECT", "shop")
	run := func(args ...string) string {
		t.Helper()
		code, out, complaint := lemnis(t.Context(), append(args, "--server", stack.URL())...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, complaint)
		}
		return out
	}
	received := make(chan http.Header, 10)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "lemnis")
		if r.Method == http.MethodPost {
			received <- r.Header
		}
	}))
	defer sink.Close()
	out := run("subscriptions", "add", "--sink", sink.URL, "--type", "ticket.created", "--filter", "key^=4", "--filter", "key$=2", "--filter", "key!=412",
		"--filter", "project=shop", "--cel", "data.subject.content.creator == 'ann'", "--header", "X-Token=geheim", "--wait", "30s")
	if !strings.Contains(out, "secret        whsec_") || !strings.Contains(out, "state         active") {
		t.Fatalf("%s", out)
	}
	id := strings.Fields(out)[1]
	for _, key := range []string{"41", "412", "42"} {
		run("events", "publish", "ticket.created", "--id", key, "--set", "summary=s", "--set", "creator=ann", "--set", "uri=https://example.org/"+key)
	}
	if h := <-received; h.Get("Ce-Key") != "42" || h.Get("X-Token") != "geheim" {
		t.Errorf("%v", h)
	}
	var one struct {
		Filters []json.RawMessage `json:"filters"`
	}
	if shown := run("subscriptions", "show", id); strings.Contains(shown, "geheim") || json.Unmarshal([]byte(shown), &one) != nil || len(one.Filters) != 5 {
		t.Errorf("%s", shown)
	}
	if out := run("subscriptions", "add", "--nats", "chat", "--start", "all"); !strings.Contains(out, "local-chat") {
		t.Errorf("%s", out)
	}
	if list := run("subscriptions", "list"); !regexp.MustCompile(id + ` +shop +` + sink.URL + ` +active +\d+`).MatchString(list) {
		t.Errorf("%s", list)
	}
	run("subscriptions", "remove", id)
	if list := run("subscriptions", "list"); strings.Contains(list, id) || !strings.Contains(list, "local-chat") {
		t.Errorf("%s", list)
	}
	if list := run("subscriptions", "list", "-o", "json"); !json.Valid([]byte(list)) || !strings.Contains(list, `"consumer": "local-chat"`) {
		t.Errorf("%s", list)
	}
}
