package webhook

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// repository is one of the project's, as the sender knows it.
type repository struct {
	ref  events.RepositoryRef
	page string // its address for people, without a slash at the end
	path string // owner/name
	// Addresses to which the id of a commit, the number of an issue, or of a change, is added.
	commits, issues, changes string
}

func (r repository) reference() *events.Reference { return &events.Reference{ID: r.ref.Name} }

func (r repository) numbered(n int64) string { return r.numbers().Numbered(n) }

func (r repository) numbers() proposal.Repository {
	return proposal.Repository{Name: r.ref.Name, Issues: r.issues, Changes: r.changes}
}

func (r repository) commit(sha string) string {
	if sha == "" {
		return ""
	}
	return r.commits + sha
}

// purl is a package URL of a version of the repository: pkg:github/owner/name@version.
func (r repository) purl(kind, version string) string {
	parts := strings.Split(strings.ToLower(r.path), "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "pkg:" + kind + "/" + strings.Join(parts, "/") + "@" + url.PathEscape(version)
}

// find looks for the repository, by any of its addresses, among the project's.
func (d *delivery) find(page, path string, addresses ...string) (repository, error) {
	if page == "" {
		return repository{}, malformed("the repository has no address")
	}
	known := []string{}
	for _, a := range append(addresses, page) {
		if n := normalize(a); n != "" {
			known = append(known, n)
		}
	}
	for _, ref := range d.project.Repositories {
		if n := normalize(ref.URL); n != "" && slices.Contains(known, n) {
			d.source = strings.TrimRight(page, "/")
			return repository{
				ref: ref, page: d.source, path: cmp.Or(path, ref.Name),
				commits: d.source + "/commit/", issues: d.source + "/issues/", changes: d.source + "/pull/",
			}, nil
		}
	}
	return repository{}, fmt.Errorf("%w: %s is not among the repositories of %s", ErrForeign, page, d.project.Name)
}

// defaultPorts need not be written.
var defaultPorts = map[string]string{"https": "443", "http": "80", "ssh": "22", "git": "9418"}

// normalize gives the addresses of one repository one form, host/owner/name: without scheme, user, a port that goes
// without saying, ".git" and case, in which no sender tells repositories apart. Empty for what is no address on a host.
func normalize(address string) string {
	address = strings.TrimSpace(address)
	if !strings.Contains(address, "://") {
		host, rest, ok := strings.Cut(address, ":") // user@host:path, as git writes it
		if !ok || strings.ContainsAny(host, "/") || strings.HasPrefix(rest, "//") {
			return ""
		}
		address = "ssh://" + host + "/" + strings.TrimPrefix(rest, "/")
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || defaultPorts[strings.ToLower(u.Scheme)] == "" {
		return ""
	}
	host := u.Hostname()
	if port := u.Port(); port != "" && port != defaultPorts[strings.ToLower(u.Scheme)] {
		host += ":" + port
	}
	name := strings.TrimSuffix(strings.Trim(path.Clean("/"+u.Path), "/"), ".git")
	if name == "" {
		return ""
	}
	return strings.ToLower(host + "/" + name)
}
