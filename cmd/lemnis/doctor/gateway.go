package doctor

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
)

// gateway asks the door whether it is open, what time it is, and how long its certificate is good.
func (r *round) gateway(ctx context.Context) {
	began := time.Now()
	alive, err := r.options.Client.Probe(ctx, http.MethodGet, "/healthz")
	took := time.Since(began)
	if err != nil {
		r.find(Error, "nobody can say anything over HTTP, and nothing of the dashboard is there",
			"start it (`lemnis up`, lemnis-gateway), or name it with --server", "no gateway answers at %s: %v", r.options.Client.Server(), err)
		return
	}
	r.says("%s answers in %s", r.options.Client.Server(), took.Round(time.Millisecond))
	if alive.Version != "" {
		r.says("version %s", alive.Version)
	}
	if !alive.Date.IsZero() { // in whole seconds, cut off
		r.skewed("the gateway", alive.Date.Add(500*time.Millisecond).Sub(began.Add(took/2)), 500*time.Millisecond+took/2)
	}
	r.expires("the gateway", alive.Expires)
	ready, err := r.options.Client.Probe(ctx, http.MethodGet, "/readyz")
	if err != nil || ready.Status != http.StatusOK {
		r.find(Error, "what was claimed can not be asked for, and claims are not taken", "look at the gateway's log; NATS or Redis may be away", "the gateway is not ready: %s", said(ready, err))
	}
}

func said(a api.Answer, err error) string {
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(a.Text)
}

// service asks a service whether it decides, or stands by.
func (r *round) service(ctx context.Context, url string) {
	c := api.New(url)
	defer c.Close()
	a, err := c.Probe(ctx, http.MethodGet, "/readyz")
	switch {
	case err != nil:
		r.find(Error, "if no other process of it runs, nothing is decided in its phases", "start the service; its address is in LEMNIS_HTTP", "nobody answers at %s: %v", url, err)
	case a.Status != http.StatusOK:
		r.find(Error, "what it can not decide on waits, or goes to the dead letter; everything else goes on",
			"where the bus, Redis or room on the stream is missing, bring it back; where a fact can not be read, install a version that can, then `lemnis deadletters list`", "%s is not ready: %s", url, said(a, nil))
	default:
		r.says("ready")
	}
	if err == nil {
		r.skewed(url, time.Until(a.Date.Add(500*time.Millisecond)), time.Second)
		r.version(url, a.Version)
	}
}

// version compares the version of a service with that of the gateway.
func (r *round) version(whose, version string) {
	gateway := ""
	for _, c := range r.report.Checks {
		if _, v, ok := strings.Cut(c.Detail, "version "); c.Name == "gateway" && ok {
			gateway, _, _ = strings.Cut(v, ";")
		}
	}
	if version == "" || gateway == "" {
		return
	}
	r.says("version %s", version)
	if version != gateway {
		r.find(Warning, "two versions side by side are for the time of an upgrade", "finish the upgrade: restart what is older", "%s has the version %s, the gateway %s", whose, version, gateway)
	}
}

// tokens looks for those that will not be good much longer.
func (r *round) tokens(ctx context.Context) {
	_, all, err := r.options.Client.Tokens(ctx)
	var answer *api.Error
	switch {
	case errors.As(err, &answer) && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden):
		r.skip("needs a token with the scope admin (--token-file)")
		return
	case err != nil:
		r.skip("%v", err)
		return
	}
	r.says("%d", len(all))
	for _, t := range all {
		if t.Expires == nil {
			continue
		}
		mend := "lemnis tokens rotate " + t.Name + " gives another text, not another end: create one that lasts longer"
		switch left := time.Until(*t.Expires); {
		case left < 0:
			r.find(Warning, "whoever still uses it is turned away", "lemnis tokens revoke "+t.Name, "the token %s has expired at %s", t.Name, t.Expires.UTC().Format(time.RFC3339))
		case left < 14*24*time.Hour:
			r.find(Warning, "whoever uses it is turned away after that", mend, "the token %s expires in %s", t.Name, left.Round(time.Hour))
		}
	}
}

// registry begins an upload and gives it up.
func (r *round) registry(ctx context.Context) {
	begun, err := r.options.Client.Probe(ctx, http.MethodPost, "/v2/lemnis-doctor/probe/blobs/uploads/")
	switch {
	case err != nil:
		r.skip("%v", err)
	case begun.Status == http.StatusUnauthorized || begun.Status == http.StatusForbidden:
		r.skip("needs a token with the scope admin (--token-file)")
	case begun.Status == http.StatusNotFound:
		r.skip("this gateway has none")
	case begun.Status != http.StatusAccepted || begun.Location == "":
		r.find(Error, "no build can be delivered", "look at the disk of the gateway's data folder, and who owns it", "the binary repository can not be written to: %d %s", begun.Status, said(begun, nil))
	default:
		if a, err := r.options.Client.Probe(ctx, http.MethodDelete, begun.Location); err != nil || a.Status >= http.StatusMultipleChoices {
			r.find(Warning, "uploads that were given up take room until a restart", "look at the gateway's log", "an upload can not be given up: %s", said(a, err))
			return
		}
		r.says("takes uploads")
	}
}

// quotas looks for projects that have used up, or nearly, what they may.
func (r *round) quotas(ctx context.Context) {
	_, all, err := r.options.Client.Quotas(ctx)
	var answer *api.Error
	switch {
	case errors.As(err, &answer) && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden):
		r.skip("needs a token with the scope admin (--token-file)")
		return
	case err != nil:
		r.skip("%v", err)
		return
	}
	why, mend := "what is said beyond it is refused with 429, over NATS it goes to the dead letter", "raise it in the gateway's quotas.yaml, or ask the project to say less"
	bounded := 0
	for _, p := range all {
		for _, q := range p.Quotas {
			if q.Limit <= 0 {
				continue
			}
			bounded++
			switch {
			case q.Used >= q.Limit:
				r.find(Error, why, mend, "the project %s has used up its %d %s", p.Project, q.Limit, q.Of)
			case q.Used*10 >= q.Limit*8:
				r.find(Warning, why, mend, "the project %s uses %d of its %d %s", p.Project, q.Used, q.Limit, q.Of)
			}
		}
	}
	r.says("%d quotas of %d projects", bounded, len(all))
}
