package artifact

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what an event makes of the artifact with this digest.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	switch e.Kind {
	case events.Claim:
		return claim(key, s, p, e)
	case events.Result:
		return looked(p, e)
	case events.Stated:
		if p.Runs(events.Integrate) {
			return step(key, s, e)
		}
	}
	return events.Fact{}, false
}

func step(key string, s State, e events.Event) (events.Fact, bool) {
	switch c := e.Content.(type) {
	case events.BuildFinished:
		b := c.Lemnis
		if s.Packaged && !s.Deleted && s.Detail.Commit == b.Merge.Commit {
			return events.Fact{}, false
		}
		d := events.ArtifactDetail{
			ID: c.ArtifactID, Service: b.Service, Repository: b.Merge.Repository, Reference: b.Artifact, Digest: b.Digest, Size: b.Size,
			Commit: b.Merge.Commit, Committed: b.Merge.Committed, Change: b.Merge.Change, Item: b.Merge.Item,
			Title: b.Merge.Title, Author: b.Merge.Author, Evidence: b.Merge.Evidence, Supply: b.Supply,
		}
		// CDEvents wants a change; the master copy as it was found is one to us, named by its commit.
		return events.Fact{SubjectID: c.ArtifactID, Content: events.ArtifactPackaged{
			Change: events.Reference{ID: cmp.Or(d.Change, d.Commit, d.Repository, key)}, SBOM: bill(d), Lemnis: d}}, true
	case events.ArtifactPackaged:
		if !s.Packaged || s.Published || s.Deleted {
			return events.Fact{}, false
		}
		if signed := s.Detail.Supply; signed != nil && signed.Signature != "" {
			return events.Fact{SubjectID: e.SubjectID, Content: events.ArtifactSigned{Signature: signed.Signature, Lemnis: s.Detail}}, true
		}
		return publish(s, e)
	case events.ArtifactSigned:
		if s.Packaged && !s.Published && !s.Deleted {
			return publish(s, e)
		}
	}
	return events.Fact{}, false
}

// publish says that the artifact is there to be had: the build pushed it before it finished.
func publish(s State, e events.Event) (events.Fact, bool) {
	return events.Fact{SubjectID: e.SubjectID, Content: events.ArtifactPublished{SBOM: bill(s.Detail), Lemnis: s.Detail}}, true
}

// bill says where the bill of materials is.
func bill(d events.ArtifactDetail) *events.SBOM {
	if d.Supply == nil || d.Supply.SBOM == "" {
		return nil
	}
	return &events.SBOM{URI: "oci://" + d.Supply.SBOM}
}

// looked states what came of the look at what an outside builder offered.
func looked(p events.Project, e events.Event) (events.Fact, bool) {
	if p.Runs(events.Integrate) {
		return events.Fact{}, false // the phase was handed on meanwhile
	}
	return events.Fact{SubjectID: e.SubjectID, Content: e.Content}, true
}

func claim(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if Digest(e.SubjectID) == "" {
		return events.Refuse(e, fmt.Sprintf("%q names no artifact: its subject has to be a package URL with a digest, like pkg:oci/api@sha256%%3A…", e.SubjectID))
	}
	var offer events.ArtifactOffered
	switch c := e.Content.(type) {
	case events.ArtifactDownloaded, events.ArtifactDeleted: // the registry says so, whoever does the phase
		if !s.Packaged && !s.Published || s.Deleted {
			return events.Refuse(e, fmt.Sprintf("no artifact with the digest %s is published", key))
		}
		return events.Fact{SubjectID: e.SubjectID, Content: e.Content}, true
	case events.ArtifactPackaged:
		offer = events.ArtifactOffered{Claimed: Packaged, Change: &c.Change, SBOM: c.SBOM, Artifact: c.Lemnis}
		offer.Artifact.Change = cmp.Or(c.Lemnis.Change, c.Change.ID)
	case events.ArtifactPublished:
		offer = events.ArtifactOffered{Claimed: Published, SBOM: c.SBOM, User: c.User, Artifact: s.known(c.Lemnis)}
	case events.ArtifactSigned:
		if !s.Packaged && !s.Published && s.known(events.ArtifactDetail{}) == (events.ArtifactDetail{}) {
			return events.Refuse(e, fmt.Sprintf("no artifact with the digest %s is known", key))
		}
		offer = events.ArtifactOffered{Claimed: Signed, Signature: c.Signature, Artifact: s.known(c.Lemnis)}
	default:
		return events.Refuse(e, fmt.Sprintf("%s follows from what is claimed of an artifact; it cannot be claimed", e.Type.Short()))
	}
	if p.Runs(events.Integrate) {
		return events.Refuse(e, fmt.Sprintf("artifacts are packaged here; %s cannot be claimed", e.Type.Short()))
	}
	offer.Artifact = complete(offer.Artifact, key, e)
	if reason := another(offer.Artifact, key, e.SubjectID); reason != "" {
		return events.Refuse(e, reason)
	}
	return events.Fact{SubjectID: e.SubjectID, Content: offer}, true
}

// known is what was said of the artifact before, unless it is said again.
func (s State) known(d events.ArtifactDetail) events.ArtifactDetail {
	return cmp.Or(d, s.Detail, s.Offered)
}

// another says why what a claim names is not the artifact with this digest: what is shown and gated has to be what is deployed, which
// goes by the reference.
func another(d events.ArtifactDetail, digest, subject string) string {
	named := d.ID
	_, of, is := strings.Cut(d.Reference, "@")
	switch {
	case is && of != digest:
		named = d.Reference
	case Digest(d.ID) == "":
		return fmt.Sprintf("the id %q names no artifact: leave it out, or write a package URL with the digest of %q", d.ID, subject)
	case Digest(d.ID) == digest:
		return ""
	}
	return fmt.Sprintf("%q is another artifact than %q, which the claim is about", named, subject)
}

// complete fills in what the package URL says.
func complete(d events.ArtifactDetail, digest string, e events.Event) events.ArtifactDetail {
	d.ID = cmp.Or(d.ID, e.SubjectID)
	d.Digest = cmp.Or(d.Digest, digest)
	return d
}
