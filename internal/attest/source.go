package attest

import (
	"cmp"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Source is the address of a repository as a provenance states it, for anybody to see: without user; of a folder of this machine it is a
// URL too.
func Source(address string) string {
	if path.IsAbs(address) {
		return "file://" + address
	}
	if u, err := url.Parse(address); err == nil {
		u.User = nil
		return u.String()
	}
	return stranger.ReplaceAllString(address, "$1")
}

// stranger is a user of an address that is no URL. Up to the last @: a password may hold whatever made it none.
var stranger = regexp.MustCompile(`(?s)^\s*([A-Za-z][A-Za-z0-9+.-]*://).*@`)

// among holds the source that a provenance names to a project's repositories: one key may sign for many projects, and whoever may push
// copies what another project built, with its provenance. One that names none, or of a project without repositories, is not held to any.
func among(source string, own []events.RepositoryRef) bool {
	return source == "" || len(own) == 0 || slices.ContainsFunc(own, func(r events.RepositoryRef) bool { return sameRepository(source, r) })
}

// sameRepository tells by host and path: outside builders may fetch by ssh what is https here. Ports count within one scheme only.
func sameRepository(source string, own events.RepositoryRef) bool {
	if source == Source(own.URL) {
		return true // as Lemnis' own builder states it, whatever its form
	}
	a, at := events.RepositoryRef{URL: source}.Remote()
	b, host := own.Remote()
	if !at || !host {
		folder := func(address string) string { return strings.TrimPrefix(address, "file://") }
		return at == host && named(unpinned(folder(source))) == named(folder(own.URL))
	}
	port := func(u *url.URL) string { return cmp.Or(u.Port(), defaultPorts[u.Scheme]) }
	return strings.EqualFold(a.Hostname(), b.Hostname()) && (a.Scheme != b.Scheme || port(a) == port(b)) &&
		strings.EqualFold(named(unpinned(a.Path)), named(b.Path))
}

var defaultPorts = map[string]string{"https": "443", "http": "80", "ssh": "22", "git": "9418"}

// pin is a branch, a tag or a commit behind a repository, as other builders write it.
var pin = regexp.MustCompile(`@(refs/.*|[0-9a-f]{40}|[0-9a-f]{64})$`)

func unpinned(folder string) string { return pin.ReplaceAllString(folder, "") }

// named is the path of a repository, however it is written.
func named(folder string) string { return strings.TrimSuffix(path.Clean(folder), ".git") }
