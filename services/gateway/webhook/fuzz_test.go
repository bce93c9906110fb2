package webhook_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/webhook"
)

// Whatever a sender's parser reads, it makes claims of known types with ids and chains, or says what is wrong in one of
// the documented ways.
func fuzz(f *testing.F, kind events.WebhookKind, names ...string) {
	prefix := string(kind)
	if kind == events.Forgejo {
		prefix = "gitea"
	}
	files, err := filepath.Glob(filepath.Join("testdata", prefix+"_*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		for _, event := range names {
			f.Add(event, "application/json", stored(f, name))
		}
	}
	f.Add(names[0], "application/x-www-form-urlencoded", []byte("payload=%7B%7D"))
	sender, p := lookup(f, kind), shop()
	f.Fuzz(func(t *testing.T, event, media string, body []byte) {
		h := http.Header{"Content-Type": {media}}
		for _, name := range []string{"X-GitHub-Event", "X-Gitlab-Event", "X-Gitea-Event", "X-Forgejo-Event"} {
			h.Set(name, event)
		}
		claims, err := sender.Translate(h, body, p, now)
		var unknown *webhook.UnknownError
		switch {
		case err == nil:
		case claims != nil:
			t.Fatalf("%d claims and %v", len(claims), err)
		case errors.As(err, &unknown), errors.Is(err, webhook.ErrMalformed), errors.Is(err, webhook.ErrMismatch), errors.Is(err, webhook.ErrForeign), errors.Is(err, webhook.ErrUnsupported):
		default:
			t.Fatal(err)
		}
		for _, e := range claims {
			entry, ok := events.Lookup(e.Type)
			if !ok || !entry.Claimable || e.ID == "" || e.Project != "shop" || e.SubjectID == "" || e.Source == "" {
				t.Fatalf("%+v", e)
			}
			if _, err := e.AppendBody(nil); err != nil {
				t.Fatal(err)
			}
		}
		sender.Offers(h)
	})
}

func FuzzGitHub(f *testing.F) {
	fuzz(f, events.GitHub, "push", "pull_request", "pull_request_review", "issues", "release", "workflow_run", "deployment_status")
}

func FuzzGitLab(f *testing.F) {
	fuzz(f, events.GitLab, "Push Hook", "Merge Request Hook", "Issue Hook", "Pipeline Hook", "Deployment Hook", "Release Hook")
}

func FuzzGitea(f *testing.F) {
	fuzz(f, events.Gitea, "push", "delete", "pull_request", "pull_request_approved", "issues", "release")
}

func FuzzAlertmanager(f *testing.F) {
	f.Add("", "application/json", stored(f, "alertmanager"))
	fuzz(f, events.Alertmanager, "")
}

// Signatures are read from headers that anybody may write.
func FuzzProof(f *testing.F) {
	f.Add("sha256="+sign("s3cret", []byte("{}")), "Bearer s3cret", []byte("{}"))
	f.Add("", "Basic ", []byte(nil))
	f.Fuzz(func(t *testing.T, signature, authorization string, body []byte) {
		h := headers("X-Hub-Signature-256", signature, "X-Gitea-Signature", signature, "X-Forgejo-Signature", signature, "X-Gitlab-Token", authorization, "Authorization", authorization)
		for _, kind := range events.WebhookKinds() {
			s := lookup(t, kind)
			if s.Offers(h) && s.Signs() && s.Authentic(h, body, []string{"s3cret"}) && strings.TrimPrefix(strings.ToLower(signature), "sha256=") != sign("s3cret", body) {
				t.Errorf("%s takes %q", kind, signature)
			}
		}
	})
}
