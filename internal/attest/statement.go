// Package attest states where an artifact comes from, in the words of in-toto and SLSA, and signs what it states.
//
//	statement := attest.Provenance(attest.Build{…})
//	signer, err := attest.Key(secrets, "shop", "signing")
//	envelope, err := signer.Sign(ctx, statement)             // DSSE
//	statement, key, err := attest.Verify(ctx, envelope, keys) // with the public keys that are trusted
package attest

import (
	"cmp"
	"strings"
	"time"
)

// Media types of what is attached to an artifact.
const (
	ProvenanceMediaType = "application/vnd.in-toto.provenance+dsse" // an envelope that holds a statement of provenance
	StatementType       = "application/vnd.in-toto+json"            // of the envelope's payload

	statementSchema = "https://in-toto.io/Statement/v1"
	// ProvenanceType of a statement.
	ProvenanceType = "https://slsa.dev/provenance/v1"
	// BuildType names how Lemnis builds, which says what the parameters mean.
	BuildType = "https://lemnis.dev/build/go/v1"
	// ImageBuildType is that of images that are built by a Dockerfile.
	ImageBuildType = "https://lemnis.dev/build/dockerfile/v1"
)

// Statement is an in-toto statement, v1, of SLSA provenance, v1.
type Statement struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     predicate  `json:"predicate"`
}

// Resource describes a file or a commit by its digests, in hexadecimal by algorithm.
type Resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]string `json:"externalParameters"`
	InternalParameters   map[string]string `json:"internalParameters,omitempty"`
	ResolvedDependencies []Resource        `json:"resolvedDependencies,omitempty"`
}

type runDetails struct {
	Builder    builder    `json:"builder"`
	Metadata   metadata   `json:"metadata"`
	Byproducts []Resource `json:"byproducts,omitempty"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

type metadata struct {
	InvocationID string `json:"invocationId,omitempty"`
	StartedOn    string `json:"startedOn,omitempty"`
	FinishedOn   string `json:"finishedOn,omitempty"`
}

// Build is what a provenance tells.
type Build struct {
	Type       string            // how it is built; empty: BuildType
	Manifest   Resource          // the artifact's manifest, the first subject
	Executable Resource          // the file in it, the second; of an image its configuration, which names all its files
	Repository string            // URL of the source, without credentials
	Commit     string            // of the source
	Parameters map[string]string // what was asked for besides the source
	Settings   map[string]string // what the builder chose
	Materials  []Resource        // the modules, and the toolchain
	Byproducts []Resource        // the bill of materials
	Builder    string            // URI of the builder
	Version    map[string]string // of its parts
	Invocation string            // which run of it
	Started    time.Time
	Finished   time.Time
}

// Provenance states where an artifact comes from.
func Provenance(b Build) Statement {
	source := Resource{URI: "git+" + b.Repository, Digest: map[string]string{"gitCommit": b.Commit}}
	parameters := map[string]string{"repository": source.URI, "commit": b.Commit}
	for name, value := range b.Parameters {
		if value != "" {
			parameters[name] = value
		}
	}
	moment := func(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }
	return Statement{
		Type: statementSchema, Subject: []Resource{b.Manifest, b.Executable}, PredicateType: ProvenanceType,
		Predicate: predicate{
			BuildDefinition: buildDefinition{
				BuildType: cmp.Or(b.Type, BuildType), ExternalParameters: parameters, InternalParameters: b.Settings,
				ResolvedDependencies: append([]Resource{source}, b.Materials...),
			},
			RunDetails: runDetails{
				Builder:    builder{ID: b.Builder, Version: b.Version},
				Metadata:   metadata{InvocationID: b.Invocation, StartedOn: moment(b.Started), FinishedOn: moment(b.Finished)},
				Byproducts: b.Byproducts,
			},
		},
	}
}

// Covers reports whether the digest, sha256:<hex>, is one of the statement's subjects.
func (s Statement) Covers(digest string) bool {
	hexes, ok := strings.CutPrefix(digest, "sha256:")
	for _, r := range s.Subject {
		if ok && r.Digest["sha256"] == hexes {
			return true
		}
	}
	return false
}

// Commit is the commit of the source that the statement names; empty when it names none.
func (s Statement) Commit() string { return s.source().Digest["gitCommit"] }

// Repository is where the statement says that the commit is from, as git takes it; empty when it does not say.
func (s Statement) Repository() string { return strings.TrimPrefix(s.source().URI, "git+") }

// source is the first dependency that is a commit.
func (s Statement) source() Resource {
	for _, r := range s.Predicate.BuildDefinition.ResolvedDependencies {
		if r.Digest["gitCommit"] != "" {
			return r
		}
	}
	return Resource{}
}

// Byproduct is the digest, sha256:<hex>, of what came of the build beside the artifact, by its media type; empty when there is none.
func (s Statement) Byproduct(mediaType string) string {
	for _, r := range s.Predicate.RunDetails.Byproducts {
		if r.MediaType == mediaType && r.Digest["sha256"] != "" {
			return "sha256:" + r.Digest["sha256"]
		}
	}
	return ""
}
