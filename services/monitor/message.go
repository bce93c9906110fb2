package monitor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/monitor/alert"
)

const attempts = 3

// messenger tells people of incidents.
type messenger struct {
	options Options
	client  *http.Client
}

func newMessenger(o Options) *messenger {
	return &messenger{options: o, client: noRedirects(outward.Transport(o.Allow))}
}

// message is the JSON that a webhook gets. It may come more than once: the header Idempotency-Key tells.
type message struct {
	Incident    string `json:"incident"`
	Project     string `json:"project"`
	Environment string `json:"environment"`
	Service     string `json:"service,omitempty"`
	Severity    string `json:"severity,omitempty"`
	Rota        string `json:"rota"`
	To          string `json:"to"`
	Text        string `json:"text"`
	Event       string `json:"event"` // id of the fact
	Chain       string `json:"chain,omitempty"`
}

// alert tells whoever is on duty when the incident was stated.
func (m *messenger) alert(ctx context.Context, job *service.Job) error {
	if !job.Project.Runs(events.Operate) {
		return nil
	}
	var incident events.Incident
	var detail events.IncidentDetail
	switch c := job.Event.Content.(type) {
	case events.IncidentDetected:
		incident, detail = c.Incident, c.Lemnis
	case events.IncidentReported:
		incident, detail = c.Incident, c.Lemnis
	default:
		return events.Reject(fmt.Errorf("alert: %T is no incident", job.Event.Content))
	}
	base := message{
		Incident: job.Event.SubjectID, Project: job.Event.Project, Environment: incident.Environment.ID, Severity: detail.Severity,
		Text: incident.Description, Event: job.Event.ID, Chain: job.Event.Chain,
	}
	if incident.Service != nil {
		base.Service = incident.Service.ID
	}
	if detail.Title != "" {
		base.Text += fmt.Sprintf(" (%s, by %s)", detail.Title, detail.Author)
	}
	rotas := job.Project.OnCall
	if len(rotas) == 0 {
		rotas = []events.OnCall{{}}
	}
	for _, rota := range rotas {
		one := base
		one.Rota, one.To = rota.Name, alert.OnDuty(rota, job.Event.Stored)
		if err := m.tell(ctx, job, rota, one); err != nil {
			return err
		}
	}
	return nil
}

func (m *messenger) tell(ctx context.Context, job *service.Job, rota events.OnCall, msg message) error {
	sent := events.AlertSent{Incident: msg.Incident, To: msg.To, Channel: "log", Delivered: true, Text: msg.Text}
	if msg.To == "" {
		sent.To, sent.Delivered, sent.Reason = "nobody", false, "nobody is on call: the project names no one"
	}
	m.options.Log("incident", "incident", msg.Incident, "project", msg.Project, "environment", msg.Environment, "service", msg.Service,
		"severity", msg.Severity, "to", sent.To, "rota", msg.Rota, "text", msg.Text)
	if rota.Webhook != "" && msg.To != "" {
		sent.Channel = "webhook"
		if err := m.deliver(ctx, rota.Webhook, msg); err != nil {
			if ctx.Err() != nil {
				return ctx.Err() // draining: another attempt comes, under the same idempotency key
			}
			sent.Delivered, sent.Reason = false, err.Error()
			m.options.Log("alert not delivered", "incident", msg.Incident, "to", msg.To, "rota", msg.Rota, "error", err.Error())
		}
	}
	return job.Report(ctx, service.Report{Content: sent, Key: msg.Incident, Phase: events.Operate, Once: msg.Rota})
}

// deliver posts a message, a bounded number of times. Its errors do not hold the URL, which may be a secret.
func (m *messenger) deliver(ctx context.Context, webhook string, msg message) error {
	target, err := m.resolve(msg.Project, webhook)
	if err != nil {
		return err
	}
	body, err := json.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encode the message: %w", err)
	}
	sum := sha256.Sum256([]byte(msg.Event + "\x00" + msg.Rota + "\x00" + msg.To))
	key := hex.EncodeToString(sum[:16])
	pause := m.options.AlertPause
	for attempt := 1; ; attempt++ {
		again, err := m.post(ctx, target, key, body)
		if err == nil {
			return nil
		}
		if !again || attempt == attempts {
			return fmt.Errorf("attempt %d: %w", attempt, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause *= 4
	}
}

// post is one attempt; again says whether another one may help.
func (m *messenger) post(ctx context.Context, target *url.URL, key string, body []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.options.AlertTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return false, errors.New("the webhook's URL is no address")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	request.Header.Set("User-Agent", "lemnis")
	response, err := m.client.Do(request)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return !errors.Is(err, outward.ErrClosed), fmt.Errorf("the webhook can not be reached: %w", err)
	}
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
	_ = response.Body.Close()
	switch status := response.StatusCode; {
	case status < 300:
		return false, nil
	case status < 400:
		return false, fmt.Errorf("the webhook redirects (%d), which is not followed", status)
	default:
		return status >= 500 || status == http.StatusTooManyRequests, fmt.Errorf("the webhook answers %d", status)
	}
}

// resolve reads a webhook's address, or the secret that holds it.
func (m *messenger) resolve(project, webhook string) (*url.URL, error) {
	if name, ok := strings.CutPrefix(webhook, "secret:"); ok {
		address, err := secret.Read(m.options.SecretsDir, project, name)
		if err != nil {
			return nil, fmt.Errorf("the webhook's secret %q can not be read", name)
		}
		webhook = address
	}
	u, err := url.Parse(webhook)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the webhook is no http or https address")
	}
	return u, nil
}
