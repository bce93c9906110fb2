package command

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os/user"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// draft is an event that is about to be claimed.
type draft struct {
	typ                                 events.Type
	project, subject, chain, id, source string
}

// event makes an event of a content as people write it: the fields of the type's content, with those that Lemnis adds under
// "lemnis". A field that the type does not have is refused; what CDEvents demands and nobody says is filled in.
func (d draft) event(content map[string]any) (events.Event, error) {
	entry, ok := events.Lookup(d.typ)
	if !ok {
		return events.Event{}, fmt.Errorf("%w: %s", events.ErrUnknownType, d.typ)
	}
	if !entry.Claimable {
		return events.Event{}, fmt.Errorf("%s can not be claimed: only a service says it", d.typ.Short())
	}
	value := reflect.New(reflect.TypeOf(entry.Zero())).Elem()
	own := map[string]any{}
	for name, v := range content {
		own[name] = v
	}
	if added := value.FieldByName("Lemnis"); added.IsValid() {
		if detail, given := own["lemnis"]; given {
			delete(own, "lemnis")
			if err := strictly(d.typ, "lemnis.", detail, added); err != nil {
				return events.Event{}, err
			}
		}
	}
	if err := strictly(d.typ, "", own, value); err != nil {
		return events.Event{}, err
	}
	e := events.Event{
		ID: cmp.Or(d.id, rand.Text()), Source: d.source, Type: d.typ, Time: time.Now(), Project: d.project, Chain: d.chain,
		SubjectID: d.subject, Content: value.Interface(),
	}
	e.SubjectID = cmp.Or(e.SubjectID, strings.ToLower(rand.Text()[:12]))
	e.Content = complete(e)
	return e, nil
}

var unknownField = regexp.MustCompile(`unknown field "(.*)"`)

// strictly decodes into a value and names a field that it does not have.
func strictly(t events.Type, prefix string, from any, into reflect.Value) error {
	encoded, err := json.Marshal(from)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(into.Addr().Interface())
	if err == nil {
		return nil
	}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		return usage("%s has no field %s%s%s", t.Short(), prefix, m[1], didYouMean(m[1], fieldsOf(into.Type())))
	}
	return usage("%s: %v", t.Short(), err)
}

// fieldsOf names the JSON fields of a struct.
func fieldsOf(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "":
			names = append(names, fieldsOf(field.Type)...)
		case field.Name == "Lemnis":
			names = append(names, "lemnis")
		case name != "-":
			names = append(names, cmp.Or(name, field.Name))
		}
	}
	return names
}

// complete fills in what the schema of CDEvents asks for, where it follows from who is speaking or of what.
func complete(e events.Event) any {
	ticket := func(t *events.Ticket) {
		t.Creator = cmp.Or(t.Creator, me())
		t.URI = cmp.Or(t.URI, "urn:lemnis:"+e.Project+":item:"+e.SubjectID)
	}
	switch c := e.Content.(type) {
	case events.TicketCreated:
		ticket(&c.Ticket)
		return c
	case events.TicketUpdated:
		ticket(&c.Ticket)
		return c
	case events.TicketClosed:
		ticket(&c.Ticket)
		c.UpdatedBy = cmp.Or(c.UpdatedBy, me())
		return c
	case events.ValueEstimated:
		c.Item = cmp.Or(c.Item, e.SubjectID)
		return c
	case events.ReleasePlanned:
		c.Release = cmp.Or(c.Release, e.SubjectID)
		return c
	case events.ReleaseCompleted:
		c.Release = cmp.Or(c.Release, e.SubjectID)
		return c
	case events.RepositoryCreated:
		c.Name = cmp.Or(c.Name, e.SubjectID)
		return c
	case events.LessonLearned:
		c.Lesson = cmp.Or(c.Lesson, e.SubjectID)
		return c
	}
	return e.Content
}

// me is who runs the command.
func me() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "somebody"
}
