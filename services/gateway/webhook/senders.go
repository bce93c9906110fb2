package webhook

import "github.com/lemnis/lemnis/pkg/events"

const (
	mib = 1 << 20
	// GitHub cuts a payload off at 25 MB; the others have no limit of their own, and get the same.
	mostOfForge = 25 * mib
	// A group of alerts; Alertmanager's max_alerts bounds it.
	mostOfAlerts = 4 * mib
)

var senders = map[events.WebhookKind]Sender{
	events.GitHub: {
		Kind: events.GitHub, MaxBytes: mostOfForge, translate: github,
		proof: proof{signature: signatureIn("X-Hub-Signature-256")}, event: []string{"X-GitHub-Event"},
	},
	events.GitLab: {
		Kind: events.GitLab, MaxBytes: mostOfForge, translate: gitlab,
		proof: proof{token: gitlabToken}, event: []string{"X-Gitlab-Event"},
	},
	events.Gitea: {
		Kind: events.Gitea, MaxBytes: mostOfForge, translate: gitea,
		proof: proof{signature: signatureIn("X-Gitea-Signature", "X-Hub-Signature-256")}, event: []string{"X-Gitea-Event"},
	},
	events.Forgejo: {
		Kind: events.Forgejo, MaxBytes: mostOfForge, translate: gitea,
		proof: proof{signature: signatureIn("X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256")}, event: []string{"X-Forgejo-Event", "X-Gitea-Event"},
	},
	events.Alertmanager: {
		Kind: events.Alertmanager, MaxBytes: mostOfAlerts, translate: alertmanager, proof: proof{token: bearer},
	},
}
