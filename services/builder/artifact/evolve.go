package artifact

import (
	"bytes"
	"encoding/json"

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
		if same(c.Artifact, s.Offered) { // else another was offered meanwhile, which is looked at too
			s.Offered = events.ArtifactDetail{}
		}
	case events.ArtifactSigned:
		s.Offered = events.ArtifactDetail{}
		if s.Detail == s.Offered { // it was looked at before what says more of it
			s.Detail = c.Lemnis
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

// same compares what is written of two: a list that is empty in one that was just claimed is none once it was read from the stream.
func same(a, b events.ArtifactDetail) bool {
	one, errOne := json.Marshal(a)
	other, errOther := json.Marshal(b)
	return errOne == nil && errOther == nil && bytes.Equal(one, other)
}
