package events

// SBOM says where a bill of materials is.
type SBOM struct {
	URI string `json:"uri" schema:"nonempty,format=uri-reference"`
}

// Supply is what is known of where an artifact comes from and of what is in it.
type Supply struct {
	SBOM       string   `json:"sbom,omitempty"`       // CycloneDX: reference in the registry, by digest
	Provenance string   `json:"provenance,omitempty"` // SLSA, in a signed envelope: reference in the registry, by digest
	Signature  string   `json:"signature,omitempty"`  // in that envelope, base64
	Key        string   `json:"key,omitempty"`        // fingerprint of the key that signed
	Licenses   []string `json:"licenses,omitempty"`   // SPDX ids of the modules within, sorted
	Unlicensed []string `json:"unlicensed,omitempty"` // modules whose licence is not known

	Vulnerabilities *Vulnerabilities `json:"vulnerabilities,omitempty"` // nil: not known, which is not none
	Missing         []string         `json:"missing,omitempty"`         // what could not be made or found out, each with the reason
	Seconds         float64          `json:"seconds,omitempty"`         // that all this took
}

// Severity of a vulnerability.
type Severity string

// The severities, in falling order, in the bands of CVSS. Unrated is what no database rates.
const (
	SeverityCritical Severity = "critical"
	SeverityHigh     Severity = "high"
	SeverityMedium   Severity = "medium"
	SeverityLow      Severity = "low"
	SeverityUnrated  Severity = "unrated"
)

// Severities lists them.
func Severities() []Severity {
	return []Severity{SeverityCritical, SeverityHigh, SeverityMedium, SeverityLow, SeverityUnrated}
}

// Vulnerabilities are those known of the modules and the Go version in an artifact. One that has several names counts once.
type Vulnerabilities struct {
	Critical int    `json:"critical"`
	High     int    `json:"high"`
	Medium   int    `json:"medium"`
	Low      int    `json:"low"`
	Unrated  int    `json:"unrated"`
	Database string `json:"database,omitempty"` // when it was changed last, RFC 3339

	Found []Vulnerability `json:"found,omitempty"` // the worst first, 50 at most
}

// Count is the number of a severity.
func (v Vulnerabilities) Count(s Severity) int {
	return map[Severity]int{SeverityCritical: v.Critical, SeverityHigh: v.High, SeverityMedium: v.Medium, SeverityLow: v.Low, SeverityUnrated: v.Unrated}[s]
}

// Vulnerability is one of them.
type Vulnerability struct {
	ID       string   `json:"id"`
	Module   string   `json:"module"` // path@version
	Fixed    string   `json:"fixed,omitempty"`
	Severity Severity `json:"severity"`
}

// ArtifactDetail is what Lemnis knows of an artifact; subject.id is its purl.
type ArtifactDetail struct {
	ID         string    `json:"id,omitempty"` // purl
	Service    string    `json:"service,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Reference  string    `json:"reference,omitempty"` // in the registry, by digest
	Digest     string    `json:"digest,omitempty"`    // of the executable; of an image its ID
	Size       int64     `json:"size,omitempty"`      // bytes; of an image, of its configuration and layers
	Commit     string    `json:"commit,omitempty"`
	Committed  string    `json:"committed,omitempty"` // when the change was committed, RFC 3339
	Change     string    `json:"change,omitempty"`
	Item       string    `json:"item,omitempty"`
	Title      string    `json:"title,omitempty"`
	Author     string    `json:"author,omitempty"`
	Evidence   *Evidence `json:"evidence,omitempty"`
	Supply     *Supply   `json:"supply,omitempty"`
}

// ArtifactPackaged says that an artifact was made.
type ArtifactPackaged struct {
	Change Reference      `json:"change"`
	SBOM   *SBOM          `json:"sbom,omitempty"`
	Lemnis ArtifactDetail `json:"-"`
}

// ArtifactSigned says that an artifact was signed.
type ArtifactSigned struct {
	Signature string         `json:"signature" schema:"nonempty"`
	Lemnis    ArtifactDetail `json:"-"`
}

// ArtifactPublished says that an artifact can be had from the registry.
type ArtifactPublished struct {
	SBOM   *SBOM          `json:"sbom,omitempty"`
	User   string         `json:"user,omitempty" schema:"nonempty"`
	Lemnis ArtifactDetail `json:"-"`
}

// ArtifactOffered says that an outside builder claims an artifact. It is looked up: what was claimed is stated once the registry has it, and a key
// that the project trusts signed where it comes from.
type ArtifactOffered struct {
	Claimed   string         `json:"claimed"` // packaged, signed or published
	Change    *Reference     `json:"change,omitempty"`
	SBOM      *SBOM          `json:"sbom,omitempty"`
	User      string         `json:"user,omitempty" schema:"nonempty"`
	Signature string         `json:"signature,omitempty" schema:"nonempty"` // of the claim
	Artifact  ArtifactDetail `json:"artifact"`
}

// ArtifactRejected says that what was offered is not what the registry has, or that no key that the project trusts signed it.
type ArtifactRejected struct {
	Claimed  string         `json:"claimed"` // packaged, signed or published
	Reason   string         `json:"reason"`
	Artifact ArtifactDetail `json:"artifact"`
}

// ArtifactDownloaded says that somebody fetched an artifact.
type ArtifactDownloaded struct {
	User string `json:"user,omitempty" schema:"nonempty"`
}

// ArtifactDeleted says that an artifact is gone.
type ArtifactDeleted struct {
	User string `json:"user,omitempty" schema:"nonempty"`
}
