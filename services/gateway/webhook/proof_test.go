package webhook_test

import (
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

func TestAuthentic(t *testing.T) {
	body := []byte(`{"zen":"Hello, World!"}`)
	hook := func(name, value string) http.Header { return headers(name, value) }
	good, bad := sign("s3cret", body), sign("other", body)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("prometheus:s3cret"))
	tests := []struct {
		kind events.WebhookKind
		h    http.Header
		want bool
	}{
		{events.GitHub, hook("X-Hub-Signature-256", "sha256="+good), true},
		{events.GitHub, hook("X-Hub-Signature-256", "sha256="+bad), false},
		{events.GitHub, hook("X-Hub-Signature-256", "sha256="+good[:62]), false},
		{events.GitHub, hook("X-Hub-Signature-256", "sha256="), false},
		{events.GitHub, hook("X-Hub-Signature-256", "sha1="+good), false},
		{events.GitHub, hook("X-Hub-Signature", "sha256="+good), false},
		{events.GitHub, hook("X-Gitlab-Token", "s3cret"), false},
		{events.GitHub, headers(), false},
		{events.GitLab, hook("X-Gitlab-Token", "s3cret"), true},
		{events.GitLab, hook("X-Gitlab-Token", "s3cre"), false},
		{events.GitLab, hook("X-Gitlab-Token", "s3cret2"), false},
		{events.GitLab, hook("X-Hub-Signature-256", "sha256="+good), false},
		{events.GitLab, headers(), false},
		{events.Gitea, hook("X-Gitea-Signature", good), true},
		{events.Gitea, hook("X-Gitea-Signature", bad), false},
		{events.Gitea, hook("X-Hub-Signature-256", "sha256="+good), true},
		{events.Gitea, headers("X-Gitea-Signature", bad, "X-Hub-Signature-256", "sha256="+good), false},
		{events.Forgejo, hook("X-Forgejo-Signature", good), true},
		{events.Forgejo, hook("X-Gitea-Signature", good), true},
		{events.Forgejo, hook("X-Forgejo-Signature", bad), false},
		{events.Alertmanager, hook("Authorization", "Bearer s3cret"), true},
		{events.Alertmanager, hook("Authorization", "bearer s3cret"), true},
		{events.Alertmanager, hook("Authorization", basic), true},
		{events.Alertmanager, hook("Authorization", "Bearer other"), false},
		{events.Alertmanager, hook("Authorization", "s3cret"), false},
		{events.Alertmanager, headers(), false},
	}
	for i, test := range tests {
		s := lookup(t, test.kind)
		if got := s.Offers(test.h) && s.Authentic(test.h, body, []string{"s3cret"}); got != test.want {
			t.Errorf("%d %s: %v %v", i, test.kind, test.h, got)
		}
		if s.Offers(test.h) && s.Authentic(test.h, append([]byte("x"), body...), []string{"s3cret"}) != (test.want && !s.Signs()) {
			t.Errorf("%d %s: another body", i, test.kind)
		}
		if s.Authentic(test.h, body, nil) || s.Authentic(test.h, body, []string{""}) {
			t.Errorf("%d %s: authentic without a secret", i, test.kind)
		}
		if s.Offers(test.h) && s.Authentic(test.h, body, []string{"newer", "s3cret"}) != test.want {
			t.Errorf("%d %s: with two secrets", i, test.kind)
		}
	}
	if lookup(t, events.GitHub).Authentic(headers("X-Hub-Signature-256", "sha256="+sign("", body)), body, []string{""}) {
		t.Error("an empty secret counts")
	}
}
