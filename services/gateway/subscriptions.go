package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
	"github.com/lemnis/lemnis/services/gateway/subscription"
)

const mostSubscription = 64 << 10 // bytes of a request

// recordSubscription puts a change on the stream, for the audit.
func (g *Gateway) recordSubscription(ctx context.Context, principal, id, change string) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return g.record(ctx, principal, id, events.SubscriptionChanged{Subscription: id, Change: change})
}

// listSubscriptions answers GET /subscriptions with those of the projects that may be read.
func (g *Gateway) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	who, project := access.From(r.Context()), r.URL.Query().Get("project")
	all, err := g.subscriptions.List(r.Context(), func(of string) bool { return (project == "" || of == project) && who.MayRead(of) })
	if err != nil {
		g.fail(w, r, ofSubscription(err))
		return
	}
	g.write(w, http.StatusOK, "application/json", all)
}

// createSubscription answers POST /subscriptions. The answer holds the signing secret, this once.
func (g *Gateway) createSubscription(w http.ResponseWriter, r *http.Request) {
	s, err := g.readSubscription(w, r)
	who := access.From(r.Context())
	if err == nil {
		err = who.May(access.Need(access.Admin, "", s.Config.Project))
	}
	var v subscription.View
	if err == nil {
		v, err = g.subscriptions.Create(r.Context(), who.Principal, s)
	}
	if err != nil {
		g.fail(w, r, ofSubscription(err))
		return
	}
	w.Header().Set("Location", "/subscriptions/"+v.ID)
	g.write(w, http.StatusCreated, "application/json", v)
}

// showSubscription answers GET /subscriptions/{id}.
func (g *Gateway) showSubscription(w http.ResponseWriter, r *http.Request) {
	v, err := g.subscriptions.Get(r.Context(), r.PathValue("id"))
	if err == nil {
		err = access.From(r.Context()).May(access.Need(access.Read, "", v.Config.Project))
	}
	if err != nil {
		g.fail(w, r, ofSubscription(err))
		return
	}
	g.write(w, http.StatusOK, "application/json", v)
}

// replaceSubscription answers PUT /subscriptions/{id}.
func (g *Gateway) replaceSubscription(w http.ResponseWriter, r *http.Request) {
	err := g.mayChangeSubscription(r)
	var s subscription.Subscription
	if err == nil {
		s, err = g.readSubscription(w, r)
	}
	var v subscription.View
	if err == nil {
		v, err = g.subscriptions.Replace(r.Context(), access.From(r.Context()).Principal, r.PathValue("id"), s)
	}
	if err != nil {
		g.fail(w, r, ofSubscription(err))
		return
	}
	g.write(w, http.StatusOK, "application/json", v)
}

// deleteSubscription answers DELETE /subscriptions/{id}.
func (g *Gateway) deleteSubscription(w http.ResponseWriter, r *http.Request) {
	err := g.mayChangeSubscription(r)
	if err == nil {
		err = g.subscriptions.Delete(r.Context(), access.From(r.Context()).Principal, r.PathValue("id"))
	}
	if err != nil {
		g.fail(w, r, ofSubscription(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// mayChangeSubscription judges by the project that the subscription is about.
func (g *Gateway) mayChangeSubscription(r *http.Request) error {
	project, err := g.subscriptions.Project(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return access.From(r.Context()).May(access.Need(access.Admin, "", project))
}

func (g *Gateway) readSubscription(w http.ResponseWriter, r *http.Request) (subscription.Subscription, error) {
	body, err := readBody(w, r, mostSubscription)
	var no *refusal
	if errors.As(err, &no) && no.status == http.StatusRequestEntityTooLarge {
		err = refuse(no.status, "the subscription has more than %d bytes", mostSubscription)
	}
	if err != nil {
		return subscription.Subscription{}, err
	}
	if name, err := repeatedMember(body, folded); err == nil && name != "" { // what is no JSON, Parse refuses
		return subscription.Subscription{}, refuse(http.StatusBadRequest, "the member %s is there twice", quote(name))
	}
	return subscription.Parse(body)
}

// ofSubscription makes an answer of what a subscription failed for.
func ofSubscription(err error) error {
	var field *subscription.FieldError
	var no *refusal
	var denied *access.DeniedError
	switch {
	case errors.As(err, &field):
		return refuse(http.StatusBadRequest, "%v", field)
	case errors.As(err, &no), errors.As(err, &denied):
		return err
	case errors.Is(err, subscription.ErrNotFound):
		return refuse(http.StatusNotFound, "%v", err)
	case errors.Is(err, subscription.ErrConflict), errors.Is(err, subscription.ErrTooMany):
		return refuse(http.StatusConflict, "%v", err)
	}
	return away(err)
}
