package oci

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// ErrBadReference says that a repository, digest or package URL is not of an accepted form.
var ErrBadReference = errors.New("bad reference")

// Reference names one artifact in one repository.
type Reference struct {
	Repository string // host[:port]/path, without scheme: 127.0.0.1:8080/shop/api
	Digest     string // of the manifest: sha256:<hex>
	MediaType  string // of the manifest; empty in a reference that was parsed
	Size       int64  // bytes of the manifest; 0 in a reference that was parsed
	Layer      string // digest of the executable itself, of an image its ID; empty in a reference that was parsed
}

// String returns repository@digest, the form that OCI tools take.
func (r Reference) String() string { return r.Repository + "@" + r.Digest }

// PURL returns the artifact's package URL of the type oci, as CDEvents use it:
// pkg:oci/api@sha256%3A…?repository_url=127.0.0.1:8080/shop/api. The reference must be a valid one.
func (r Reference) PURL() string {
	name := strings.ToLower(path.Base(r.Repository))
	return "pkg:oci/" + url.PathEscape(name) + "@" + strings.ReplaceAll(r.Digest, ":", "%3A") +
		"?repository_url=" + qualifier(r.Repository)
}

// qualifier leaves colons and slashes as they are: the specification's own examples do.
func qualifier(s string) string {
	return strings.NewReplacer("%3A", ":", "%2F", "/").Replace(url.QueryEscape(s))
}

// ParsePURL reads a package URL of the type oci. Qualifiers other than repository_url (arch, tag)
// are ignored. The error wraps ErrBadReference.
func ParsePURL(purl string) (Reference, error) {
	bad := func(why string) (Reference, error) {
		return Reference{}, fmt.Errorf("%w: purl %q %s", ErrBadReference, purl, why)
	}
	rest, ok := strings.CutPrefix(purl, "pkg:oci/")
	if !ok {
		return bad("is not of the type oci")
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	escapedName, version, ok := strings.Cut(rest, "@")
	if !ok {
		return bad("has no digest")
	}
	name, err := url.PathUnescape(escapedName)
	if err != nil || name == "" || strings.Contains(name, "/") {
		return bad("has no name")
	}
	digest, err := url.PathUnescape(version)
	if err != nil || !isDigest(digest) {
		return bad("has no digest")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("has bad qualifiers")
	}
	repository := values.Get("repository_url")
	if repository == "" || strings.Contains(repository, "://") { // nobody's event may ask for plain http
		return bad("has no repository_url of the form host/path")
	}
	if !strings.EqualFold(path.Base(repository), name) {
		return bad("has a repository_url of another name")
	}
	if _, err := parseRepository(repository, settings{}); err != nil {
		return Reference{}, err
	}
	return Reference{Repository: repository, Digest: digest}, nil
}

func isDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
