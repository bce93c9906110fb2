package gateway_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/pkg/events"
)

func TestFeedback(t *testing.T) {
	w := newWorld(t)
	const said = `{"project":"shop","user":"ann@example.org","text":"Search is slow, call 0301234567","feature":"search","rating":2}`
	post := func(body string) (int, string) {
		resp, answer := w.send(http.MethodPost, "/feedback", body, "Content-Type", "application/json")
		return resp.StatusCode, answer
	}
	status, answer := post(said)
	var got receipt
	if err := json.Unmarshal([]byte(answer), &got); err != nil || status != http.StatusAccepted || got.Phase != "learn" || got.Sequence == 0 {
		t.Fatalf("%d %s", status, answer)
	}
	vault, err := privacy.NewVault(t.Context(), w.host.JS, 1)
	if err != nil {
		t.Fatal(err)
	}
	check := func(sequence uint64, text string) events.FeedbackReceived {
		t.Helper()
		e, data, _ := w.stored(sequence)
		c, ok := e.Content.(events.FeedbackReceived)
		if !ok || e.Key == "" || e.Chain == "" || e.Principal != "local" {
			t.Fatalf("stored %+v", e)
		}
		for _, secret := range []string{"ann@", "slow", "c2xvd", "0301234567"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s stands on the stream: %s", secret, data)
			}
		}
		plain, err := vault.Open(t.Context(), "shop", c.Key, c.Text)
		if err != nil || string(plain) != text {
			t.Errorf("opened %q, %v", plain, err)
		}
		return c
	}
	first := check(got.Sequence, "Search is slow, call [phone]")
	if first.Feature != "search" || first.Rating != 2 || strings.Contains(first.User, "ann") {
		t.Errorf("%+v", first)
	}
	// At the other doors too.
	e := sourced(events.New("shop", "f2", events.FeedbackReceived{User: "ann@example.org", Text: []byte("so slow")}))
	e.Custom, e.CustomType = json.RawMessage(`{"note":"ann@example.org said slow"}`), "application/json"
	if second := check(w.claim(e).Sequence, "so slow"); second.User != first.User {
		t.Errorf("users %s and %s", first.User, second.User)
	}
	e = sourced(events.New("shop", "f3", events.FeedbackReceived{User: "ann@example.org", Text: []byte("slow again")}))
	w.submit(w.submitter(), "submit.local.x", structured(t, e))
	var p page
	w.until("it is a claim", func() bool { w.get("/events?key=f3", &p); return len(p.Events) == 1 })
	check(3, "slow again")

	for body, want := range map[string]int{
		`{}`: 400, ``: 400, `[]`: 400, said + "x": 400, strings.Replace(said, "feature", "colour", 1): 400, strings.Replace(said, `"rating":2`, `"rating":9`, 1): 400,
		strings.Replace(said, "shop", "No!", 1): 403, strings.Replace(said, "ann@example.org", "", 1): 400, `{"project":"shop","user":"ann","text":" "}`: 400,
		`{"project":"shop","user":"ann","text":"` + strings.Repeat("x", 70000) + `"}`: 413,
	} {
		if status, answer := post(body); status != want {
			t.Errorf("%.80s: %d %s, want %d", body, status, answer, want)
		}
	}
}
