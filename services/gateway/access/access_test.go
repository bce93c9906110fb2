package access

import (
	"strings"
	"testing"
)

func TestParseScope(t *testing.T) {
	for text, want := range map[string]string{
		"admin": "admin", "admin@*": "admin", "admin@shop": "admin@shop", "read@shop": "read@shop", "read@*": "read@*",
		"publish@shop": "publish@shop", "publish:*@shop": "publish@shop", "publish:integrate@shop": "publish:integrate@shop", "publish:plan@*": "publish:plan@*",
		"decide:prod@shop": "decide:prod@shop", "decide:*@shop": "decide:*@shop",
	} {
		s, err := ParseScope(text)
		if err != nil || s.String() != want {
			t.Errorf("%s: %s, %v", text, s, err)
		}
		if again, err := ParseScope(s.String()); err != nil || again != s {
			t.Errorf("%s does not read what it writes: %v, %v", text, again, err)
		}
	}
	for _, text := range []string{
		"", "@", "read", "read@", "publish", "publish:@shop", "publish:ship@shop", "decide@shop", "decide:@shop", "read:plan@shop", "admin:x",
		"admin@Shop", "write@shop", "read@sh.op", "read@shop@other", "decide:a b@shop", "Admin", " admin", "publish:plan:x@shop",
	} {
		if s, err := ParseScope(text); err == nil {
			t.Errorf("%q was read as %s", text, s)
		} else if !strings.Contains(err.Error(), "scope") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What each scope lets through. As a need, "*" is all of them together, so that no single one covers it.
func TestCovers(t *testing.T) {
	needs := []string{"publish:plan@shop", "publish:integrate@shop", "publish:plan@other", "publish@shop", "read@shop", "read@*", "decide:prod@shop", "decide:*@shop", "admin@shop", "admin"}
	for scope, covered := range map[string]string{
		"publish:plan@shop": "publish:plan@shop",
		"publish@shop":      "publish:plan@shop publish:integrate@shop publish@shop",
		"publish:plan@*":    "publish:plan@shop publish:plan@other",
		"read@shop":         "read@shop",
		"read@*":            "read@shop read@*",
		"decide:prod@shop":  "decide:prod@shop",
		"decide:*@shop":     "decide:prod@shop decide:*@shop",
		"admin@shop":        "publish:plan@shop publish:integrate@shop publish@shop read@shop decide:prod@shop decide:*@shop admin@shop",
		"admin":             strings.Join(needs, " "),
	} {
		s, err := ParseScope(scope)
		if err != nil {
			t.Fatal(err)
		}
		for _, need := range needs {
			n, err := ParseScope(need)
			if err != nil {
				t.Fatal(err)
			}
			want := false
			for _, c := range strings.Fields(covered) {
				want = want || c == need
			}
			if got := (Identity{Principal: "x", Scopes: []Scope{s}}).May(n) == nil; got != want {
				t.Errorf("%s covers %s: %v", scope, need, got)
			}
		}
	}
	if (Identity{}).May(Need(Read, "", "shop")) == nil {
		t.Error("nobody may read")
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"admin", "read@shop", "publish:plan@*", "decide:*@shop", "a:b@c", "@:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScope(text)
		if err != nil {
			return
		}
		if again, err := ParseScope(s.String()); err != nil || again != s {
			t.Fatalf("%q is %q, which is read as %v, %v", text, s, again, err)
		}
	})
}

func TestSecrets(t *testing.T) {
	text, kept := newSecret()
	id, secret, ok := cutToken(text)
	if !ok || id != kept.ID || !kept.is(secret) {
		t.Fatalf("%s does not fit %+v", id, kept)
	}
	if kept.is(secret+"x") || kept.is("") || kept.is(secret[:len(secret)-1]) {
		t.Error("another secret fits")
	}
	for _, bad := range []string{"", "lmn_", "lmn_abc_def", strings.TrimPrefix(text, "lmn_"), "lmn_" + id, "lmn_" + id + "_", text + strings.Repeat("x", 300)} {
		if _, _, ok := cutToken(bad); ok {
			t.Errorf("%q is taken for a token", bad)
		}
	}
}
