package forge

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Place is a repository at a forge.
type Place struct {
	kind events.ForgeKind
	api  *url.URL
	path string // owner/name; with GitLab's groups it has more parts
}

// Host is the forge that is spoken to.
func (p Place) Host() string { return p.api.Host }

// API is the address that is spoken to.
func (p Place) API() string { return p.api.String() }

// suffixes of the addresses of APIs behind that of the forge itself.
var suffixes = map[events.ForgeKind]string{
	events.ForgeGitHub: "/api/v3", events.ForgeGitLab: "/api/v4", events.ForgeGitea: "/api/v1", events.ForgeForgejo: "/api/v1",
}

// Locate finds the API of a repository's forge, and the repository there.
func Locate(ref events.RepositoryRef) (Place, error) {
	if ref.Forge == nil {
		return Place{}, errors.New("no forge is configured")
	}
	suffix, known := suffixes[ref.Forge.Kind]
	if !known {
		return Place{}, fmt.Errorf("there is no forge of the kind %q", ref.Forge.Kind)
	}
	at, remote := ref.Remote()
	if !remote {
		return Place{}, errors.New("the repository lies at no host")
	}
	p := Place{kind: ref.Forge.Kind, path: strings.TrimSuffix(strings.Trim(at.Path, "/"), ".git")}
	if ref.Forge.API != "" {
		api, err := url.Parse(strings.TrimRight(ref.Forge.API, "/"))
		if err != nil || api.Host == "" {
			return Place{}, errors.New("the address of the API is none")
		}
		p.api = api
		// A forge may lie in a folder of its host; its own names of repositories begin behind that.
		if folder := strings.Trim(strings.TrimSuffix(api.Path, suffix), "/"); folder != "" && strings.HasSuffix(api.Path, suffix) && at.Scheme != "ssh" {
			p.path = strings.TrimPrefix(p.path, folder+"/")
		}
	} else {
		p.api = derived(ref.Forge.Kind, at, suffix)
	}
	if parts := strings.Split(p.path, "/"); len(parts) < 2 || len(parts) > 2 && p.kind != events.ForgeGitLab {
		return Place{}, fmt.Errorf("%q is no owner and name of a repository", p.path)
	}
	return p, nil
}

func derived(kind events.ForgeKind, at *url.URL, suffix string) *url.URL {
	api := &url.URL{Scheme: at.Scheme, Host: at.Host, Path: suffix}
	if at.Scheme != "http" && at.Scheme != "https" { // the port is that of ssh, or of git
		api.Scheme, api.Host = "https", at.Hostname()
		if strings.Contains(api.Host, ":") {
			api.Host = "[" + api.Host + "]"
		}
	}
	host := strings.ToLower(api.Host)
	if kind == events.ForgeGitHub && (host == "github.com" || host == "www.github.com") {
		return &url.URL{Scheme: "https", Host: "api.github.com"}
	}
	if kind == events.ForgeGitHub && strings.HasSuffix(host, ".ghe.com") {
		return &url.URL{Scheme: "https", Host: "api." + host}
	}
	return api
}
