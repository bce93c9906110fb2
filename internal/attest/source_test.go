package attest

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// Provenances name a repository as their builder fetches it.
func TestOneRepositoryByManyAddresses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		source, own string
		same        bool
	}{
		{"https://git.example.org/shop/api.git", "https://git.example.org/shop/api.git", true},
		{"https://git.example.org/shop/api", "git@git.example.org:shop/api.git", true},
		{"git@git.example.org:shop/api.git", "https://git.example.org/shop/api", true},
		{"git@git.example.org:/shop/api.git", "https://git.example.org/shop/api/", true},
		{"ssh://git@git.example.org:2222/shop/api.git", "https://git.example.org/shop/api.git", true},
		{"https://ann@GIT.example.org:443/Shop/api", "https://git.example.org/shop/api.git", true},
		{"https://git.example.org/shop/api@refs/heads/main", "ssh://git@git.example.org/shop/api.git", true},
		{"https://git.example.org/shop/api.git#refs/tags/v1", "https://git.example.org/shop/api.git", true},
		{"ssh://git@ssh.github.com:443/shop/api", "https://github.com/shop/api", true},
		{"ssh://git@ssh.github.com:443/shop/api", "git@GitHub.com:shop/api", true},
		{"/srv/api.git", "file:///srv/api.git", true},
		{"file:///srv/api", "/srv/api.git/", true},
		{"file:///srv/api.git@refs/heads/main", "/srv/api", true},
		{"https://git.example.org/shop/api@" + strings.Repeat("0a", 20), "https://git.example.org/shop/api.git", true},
		{"git@git.example.org:shop/a@b.git", "https://git.example.org/shop/a@b", true},

		{"https://git.example.org/other/api.git", "https://git.example.org/shop/api.git", false},
		{"https://git.example.org/shop/api/other", "https://git.example.org/shop/api.git", false},
		{"https://git.example.org/other/shop/api", "git@git.example.org:shop/api", false},
		{"https://evil.example.org/shop/api.git", "https://git.example.org/shop/api.git", false},
		{"https://git.example.org@evil.example.org/shop/api.git", "https://git.example.org/shop/api.git", false},
		{"https://git.example.org:8443/shop/api.git", "https://git.example.org/shop/api.git", false},
		{"https://git.example.org/shop/api@b/mine", "https://git.example.org/shop/api", false},
		{"https://git.example.org/shop/api@beta", "https://git.example.org/shop/api", false},
		{"/srv/other.git", "/srv/api.git", false},
		{"/shop/api.git", "https://git.example.org/shop/api.git", false},
		{"https://git.example.org/srv/api.git", "/srv/api.git", false},
		{"api", "/srv/api.git", false},
	} {
		if same := sameRepository(test.source, events.RepositoryRef{URL: test.own}); same != test.same {
			t.Errorf("%s and %s: %v", test.source, test.own, same)
		}
	}
}

// What Lemnis builds itself is the project's, in whatever form the project's configuration names the repository.
func TestASourceIsItself(t *testing.T) {
	t.Parallel()
	for address, stated := range map[string]string{
		"https://git.example.org/shop/api.git":        "https://git.example.org/shop/api.git",
		"https://ann:pass@git.example.org/shop/api":   "https://git.example.org/shop/api",
		"ssh://git@git.example.org:2222/shop/api.git": "ssh://git.example.org:2222/shop/api.git",
		"git@git.example.org:shop/api.git":            "git@git.example.org:shop/api.git",
		"git.example.org:shop/api?.git":               "git.example.org:shop/api?.git",
		"https://ann:pa%ss@git.example.org/shop/api":  "https://git.example.org/shop/api",
		"https://ann:s@/\n@git.example.org/shop/api":  "https://git.example.org/shop/api",
		" https://ann:pass@git.example.org/shop/api":  "https://git.example.org/shop/api",
		"/srv/my api.git":                             "file:///srv/my api.git",
		"//srv/api.git":                               "file:////srv/api.git",
		"file:///srv/bücher.git":                      "file:///srv/b%C3%BCcher.git",
	} {
		own := []events.RepositoryRef{{URL: "https://git.example.org/shop/other.git"}, {URL: address}}
		if source := Source(address); source != stated || !among(source, own) || among(source, own[:1]) {
			t.Errorf("%s is stated as %s", address, source)
		}
	}
}
