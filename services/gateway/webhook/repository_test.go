package webhook

import "testing"

func TestNormalize(t *testing.T) {
	same := []string{
		"https://github.com/Acme/Web.git", "https://github.com/acme/web", "https://github.com/acme/web/", "http://github.com/acme/web.git",
		"https://ann@github.com:443/acme/web.git", "git@github.com:acme/web.git", "git@github.com:/acme/web.git", "github.com:acme/web",
		"ssh://git@github.com/acme/web.git", "ssh://git@github.com:22/acme/web", "git://github.com/acme/web.git", " https://github.com/acme//web ",
	}
	for _, s := range same {
		if got := normalize(s); got != "github.com/acme/web" {
			t.Errorf("%s: %q", s, got)
		}
	}
	for s, want := range map[string]string{
		"https://github.com/acme/web2": "github.com/acme/web2", "https://github.com.evil.org/acme/web": "github.com.evil.org/acme/web",
		"https://evil.org/github.com/acme/web": "evil.org/github.com/acme/web", "https://github.com@evil.org/acme/web": "evil.org/acme/web",
		"ssh://git@git.example.org:2222/acme/web.git": "git.example.org:2222/acme/web", "https://git.example.org:8443/acme/web": "git.example.org:8443/acme/web",
		"": "", "/srv/git/web": "", "file:///srv/git/web": "", "https://": "", "https://github.com": "", "https://github.com/": "", "web": "",
		"javascript:alert(1)//": "javascript/alert(1)",
	} {
		if got := normalize(s); got != want {
			t.Errorf("%s: %q, not %q", s, got, want)
		}
	}
}

// What has one form has it for good.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"https://github.com/acme/web.git", "git@github.com:acme/web.git", "ssh://git@h:2222/a/../b.git", "::", "a:b", "https://[::1]:443/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := normalize(s)
		if n == "" {
			return
		}
		if again := normalize("https://" + n); again != n && again != "" {
			t.Errorf("%q is %q, then %q", s, n, again)
		}
	})
}
