package artifact

import (
	"reflect"

	"github.com/lemnis/lemnis/pkg/events"
)

// State is what is known of an artifact.
type State struct {
	Packaged  bool
	Published bool
	Deleted   bool
	Downloads int
	Detail    events.ArtifactDetail
	Offered   events.ArtifactDetail // by an outside builder, and not looked at yet
}

// Evolve folds a fact of the artifact.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.ArtifactOffered:
		s.Offered = c.Artifact
	case events.ArtifactPackaged:
		// Packaged again, after it was deleted or from another commit, it is published again.
		return State{Packaged: true, Detail: c.Lemnis, Downloads: s.Downloads}
	case events.ArtifactRejected:
		if reflect.DeepEqual(c.Artifact, s.Offered) { // else another was offered meanwhile, which is looked at too
			s.Offered = events.ArtifactDetail{}
		}
	case events.ArtifactPublished:
		s.Published, s.Deleted, s.Offered = true, false, events.ArtifactDetail{}
		if c.Lemnis != (events.ArtifactDetail{}) {
			s.Detail = c.Lemnis
		}
	case events.ArtifactDownloaded:
		s.Downloads++
	case events.ArtifactDeleted:
		s.Deleted = true
	}
	return s
}
