package artifact

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// tell takes a finished build through the aggregate as the runtime does, and returns the facts.
func tell(t *testing.T, supply *events.Supply) (facts []events.Event, s State) {
	t.Helper()
	key := "sha256:" + strings.Repeat("ab", 32)
	purl := "pkg:oci/api@" + key + "?repository_url=127.0.0.1:1/shop/api"
	next := events.Event{Kind: events.Stated, Content: events.BuildFinished{ArtifactID: purl, Lemnis: events.BuildDetail{
		Outcome: events.Success, Merge: events.MergeDetail{Repository: "api", Commit: "c0"}, Supply: supply}}}
	for range 10 {
		if keys := Route(events.Project{}, next); len(keys) > 1 || len(keys) == 1 && keys[0] != key {
			t.Fatalf("%T goes to %v", next.Content, keys)
		}
		fact, ok := Decide(key, s, events.DefaultProject("shop"), next)
		if !ok {
			return facts, s
		}
		if fact.SubjectID != purl {
			t.Errorf("%T is of %q", fact.Content, fact.SubjectID)
		}
		next = events.Event{Kind: events.Stated, Key: key, SubjectID: fact.SubjectID, Content: fact.Content}
		facts, s = append(facts, next), Evolve(s, next)
	}
	t.Fatal("it never ends")
	return nil, s
}

func TestPackagedSignedPublished(t *testing.T) {
	supply := &events.Supply{SBOM: "127.0.0.1:1/shop/api@sha256:01", Signature: "c2ln", Provenance: "127.0.0.1:1/shop/api@sha256:02"}
	facts, s := tell(t, supply)
	if len(facts) != 3 || !s.Published {
		t.Fatalf("%+v", facts)
	}
	packaged, _ := facts[0].Content.(events.ArtifactPackaged)
	signed, _ := facts[1].Content.(events.ArtifactSigned)
	published, _ := facts[2].Content.(events.ArtifactPublished)
	if packaged.SBOM == nil || packaged.SBOM.URI != "oci://127.0.0.1:1/shop/api@sha256:01" || packaged.Lemnis.Supply != supply {
		t.Errorf("%+v", packaged)
	}
	if signed.Signature != "c2ln" || signed.Lemnis.Supply != supply {
		t.Errorf("%+v", signed)
	}
	if published.SBOM == nil || published.SBOM.URI != packaged.SBOM.URI || published.Lemnis.Supply != supply {
		t.Errorf("%+v", published)
	}
}

// Without a signature nothing says that there is one.
func TestPackagedPublished(t *testing.T) {
	for _, supply := range []*events.Supply{nil, {Missing: []string{"signature: no key"}}} {
		facts, s := tell(t, supply)
		if len(facts) != 2 || !s.Published {
			t.Fatalf("%+v", facts)
		}
		if packaged, ok := facts[0].Content.(events.ArtifactPackaged); !ok || packaged.SBOM != nil {
			t.Errorf("%+v", facts[0].Content)
		}
		if _, ok := facts[1].Content.(events.ArtifactPublished); !ok {
			t.Errorf("%+v", facts[1].Content)
		}
	}
}

// What an outside builder claims is offered first, and stated once it was looked at.
func TestOffered(t *testing.T) {
	key := "sha256:" + strings.Repeat("ab", 32)
	purl := "pkg:oci/api@" + key + "?repository_url=127.0.0.1:1/shop/api"
	outside := events.DefaultProject("shop")
	outside.Owners = map[events.Phase]string{events.Integrate: "jenkins"}
	s := State{}
	decide := func(p events.Project, e events.Event) any {
		t.Helper()
		e.SubjectID = purl
		if keys := Route(p, e); len(keys) != 1 || keys[0] != key {
			t.Fatalf("%T goes to %v", e.Content, keys)
		}
		fact, ok := Decide(key, s, p, e)
		if !ok {
			return nil
		}
		s = Evolve(s, events.Event{Kind: events.Stated, Key: key, SubjectID: fact.SubjectID, Content: fact.Content})
		return fact.Content
	}
	detail := events.ArtifactDetail{Reference: "127.0.0.1:1/shop/api@" + key, Commit: "c0"}
	got, ok := decide(outside, events.Event{Kind: events.Claim, Content: events.ArtifactPackaged{Change: events.Reference{ID: "7"}, Lemnis: detail}}).(events.ArtifactOffered)
	if !ok || got.Claimed != Packaged || got.Artifact.Change != "7" || got.Artifact.ID != purl || s.Packaged {
		t.Fatalf("%+v", got)
	}
	// What was said when it was packaged need not be said again.
	got, ok = decide(outside, events.Event{Kind: events.Claim, Content: events.ArtifactPublished{User: "ann"}}).(events.ArtifactOffered)
	if !ok || got.Claimed != Published || got.Artifact.Commit != "c0" || got.User != "ann" || s.Published {
		t.Fatalf("%+v", got)
	}
	rejected := events.ArtifactRejected{Claimed: Published, Reason: "not signed"}
	if c := decide(outside, events.Event{Kind: events.Result, Key: key, Content: rejected}); c != rejected || s.Offered != got.Artifact {
		t.Errorf("of another offer: %+v, %+v", c, s)
	}
	rejected.Artifact = got.Artifact
	if c := decide(outside, events.Event{Kind: events.Result, Key: key, Content: rejected}); c != rejected || s.Published || s.Offered != (events.ArtifactDetail{}) {
		t.Errorf("%+v", c)
	}
	s.Offered = got.Artifact
	published := events.ArtifactPublished{Lemnis: got.Artifact}
	if c := decide(events.DefaultProject("shop"), events.Event{Kind: events.Result, Key: key, Content: published}); c != nil {
		t.Errorf("the phase was handed on: %+v", c)
	}
	if c := decide(outside, events.Event{Kind: events.Result, Key: key, Content: published}); c != published || !s.Published || s.Offered != (events.ArtifactDetail{}) {
		t.Errorf("%+v", c)
	}
	for _, c := range []any{got, rejected} {
		if _, refused := decide(outside, events.Event{Kind: events.Claim, Content: c}).(events.ClaimRefused); !refused {
			t.Errorf("%T was claimed", c)
		}
	}
}

// What an outside builder claims stands as it was decoded where it is decided, and as it was written wherever it is read again: both fold alike.
func TestAnOfferIsFoldedAsItIsReplayed(t *testing.T) {
	var claimed, read events.ArtifactDetail
	if err := json.Unmarshal([]byte(`{"id": "x", "commit": "c0", "evidence": {"quarantined": [], "images": {}}}`), &claimed); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claimed)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &read); err != nil || reflect.DeepEqual(claimed, read) {
		t.Fatalf("%v, and there is no difference", err)
	}
	for _, offered := range []events.ArtifactDetail{claimed, read} {
		s := Evolve(State{}, events.Event{Content: events.ArtifactOffered{Artifact: offered}})
		if s = Evolve(s, events.Event{Content: events.ArtifactRejected{Artifact: read}}); s.Offered != (events.ArtifactDetail{}) {
			t.Errorf("it is still offered: %+v", s.Offered)
		}
	}
}

// What was found to be signed is offered no more, and known by what was found; what is known of it by its packaging stays.
func TestSignedIsNotOfferedAnyMore(t *testing.T) {
	offered, confirmed := events.ArtifactDetail{ID: "x", Commit: "claimed"}, events.ArtifactDetail{ID: "x", Commit: "confirmed"}
	signed := events.Event{Content: events.ArtifactSigned{Lemnis: confirmed}}
	if s := Evolve(State{Offered: offered}, signed); s.Offered != (events.ArtifactDetail{}) || s.known(events.ArtifactDetail{}) != confirmed {
		t.Errorf("%+v", s)
	}
	packaged := events.ArtifactDetail{ID: "x", Title: "Find"}
	if s := Evolve(State{Packaged: true, Detail: packaged, Offered: offered}, signed); s.Offered != (events.ArtifactDetail{}) || s.Detail != packaged {
		t.Errorf("%+v", s)
	}
}
