package artifact

import (
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
