package access

import (
	"errors"
	"testing"

	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
)

// A name can be taken again as soon as its token was revoked, also where a copy of the bucket that is behind still has the token: only the
// leader is asked.
func TestRevokedNameIsFreeAtOnce(t *testing.T) {
	_, _, js := natsdtest.Start(t)
	s, err := Open(t.Context(), js, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	copies, err := js.Conn().SubscribeSync("$JS.API.DIRECT.GET.KV_" + Bucket + ".>")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := ParseScope("admin")
	if err != nil {
		t.Fatal(err)
	}
	n := New{Name: "jenkins", Scopes: []Scope{admin}}
	first, _, err := s.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(t.Context(), n); !errors.Is(err, ErrExists) {
		t.Errorf("taken twice: %v", err)
	}
	if err := s.Revoke(t.Context(), n.Name); err != nil {
		t.Fatal(err)
	}
	second, _, err := s.Create(t.Context(), n)
	if err != nil || second == first {
		t.Errorf("%v", err)
	}
	if has, err := s.Has(t.Context(), n.Name); err != nil || !has {
		t.Errorf("it is there: %v, %v", has, err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := copies.Pending(); err != nil || n > 0 {
		t.Errorf("%d questions to whichever copy answers first, %v", n, err)
	}
}
