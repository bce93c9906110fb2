package artifact

import (
	"net/url"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate; its key is the digest in the artifact's package URL, "sha256:<hex>".
const Kind = "artifact"

// Version of the fold.
const Version = 1

// Takes lists the facts that Route answers to.
var Takes = []events.Type{
	events.TypeOf(events.BuildFinished{}),
	events.TypeOf(events.ArtifactPackaged{}),
	events.TypeOf(events.ArtifactSigned{}),
}

// Route names the artifact that an event concerns.
func Route(_ events.Project, e events.Event) []string {
	switch c := e.Content.(type) {
	case events.BuildFinished:
		if e.Kind == events.Stated && c.Lemnis.Outcome == events.Success {
			if digest := Digest(c.ArtifactID); digest != "" {
				return []string{digest}
			}
		}
	case events.ArtifactPackaged, events.ArtifactSigned:
		switch e.Kind {
		case events.Claim:
			return claimed(e)
		case events.Stated, events.Result:
			return []string{e.Key}
		}
	case events.ArtifactPublished, events.ArtifactRejected, events.ArtifactOffered, events.ArtifactDownloaded, events.ArtifactDeleted:
		switch e.Kind {
		case events.Claim:
			return claimed(e)
		case events.Result:
			return []string{e.Key}
		}
	}
	return nil
}

// claimed names the artifact of a claim; one without a digest is still answered, under its id.
func claimed(e events.Event) []string {
	if digest := Digest(e.SubjectID); digest != "" {
		return []string{digest}
	}
	return []string{e.SubjectID}
}

// What may be claimed of an artifact.
const (
	Packaged  = "packaged"
	Signed    = "signed"
	Published = "published"
)

// Digest is the digest, "sha256:<hex>", in a package URL; empty when it has none.
func Digest(purl string) string {
	rest, ok := strings.CutPrefix(purl, "pkg:")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return ""
	}
	digest, err := url.PathUnescape(rest[at+1:])
	if err != nil {
		return ""
	}
	digits, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		return ""
	}
	return digest
}
