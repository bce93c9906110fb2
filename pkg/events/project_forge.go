package events

import (
	"cmp"
	"net/url"
	"path"
	"strings"
)

// Forge is the host of a repository, as far as Lemnis speaks to its API.
type Forge struct {
	Kind  ForgeKind `json:"kind"`
	API   string    `json:"api,omitempty"` // address of the API; found by the repository's when empty
	Token string    `json:"token"`         // "secret:<name>"
}

// ForgeKind is the API that a forge speaks.
type ForgeKind string

// The forges whose API is spoken. Forgejo speaks Gitea's.
const (
	ForgeGitHub  ForgeKind = "github"
	ForgeGitLab  ForgeKind = "gitlab"
	ForgeGitea   ForgeKind = "gitea"
	ForgeForgejo ForgeKind = "forgejo"
)

// doors are hosts that serve the ssh of another, at a port that is no matter.
var doors = map[string]string{"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}

// Remote is where a repository lies, as a URL without user: https and http as they are, ssh, git and user@host:path by their scheme, at the
// host whose repository it is, where it is fetched by another. False for a folder of this machine.
func (r RepositoryRef) Remote() (*url.URL, bool) {
	s := r.URL
	if !path.IsAbs(s) && !strings.Contains(s, "://") {
		host, at, both := strings.Cut(s, ":")
		if !both {
			return nil, false
		}
		s = "ssh://" + host + "/" + strings.TrimPrefix(at, "/")
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme == "file" {
		return nil, false
	}
	return &url.URL{Scheme: u.Scheme, Host: cmp.Or(doors[strings.ToLower(u.Hostname())], u.Host), Path: u.Path}, true
}

// forge holds the forge of a repository to what can be spoken to.
func (v *validation) forge(at string, r RepositoryRef, addressed bool) {
	f := r.Forge
	if f == nil {
		return
	}
	v.oneOf(at+".kind", string(f.Kind), string(ForgeGitHub), string(ForgeGitLab), string(ForgeGitea), string(ForgeForgejo))
	if u, ok := r.Remote(); addressed && (!ok || !strings.Contains(strings.Trim(u.Path, "/"), "/")) {
		v.add(at, "needs a repository at a host, like https://git.example.org/owner/name.git; %q is none", r.URL)
	}
	if f.API != "" {
		switch u, err := url.Parse(f.API); {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
			v.add(at+".api", "has to be a URL with https or http, without query, like https://git.example.org/api/v1")
		case u.User != nil:
			v.add(at+".api", "holds credentials, which would be on the stream for ever; write them as token: \"secret:<name>\"")
		}
	}
	if f.Token == "" {
		v.add(at+".token", "is missing; name a secret, like \"secret:%s\"", f.Kind)
		return
	}
	v.secret(at+".token", f.Token)
}
