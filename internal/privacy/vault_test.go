package privacy_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/privacy"
)

func newVault(t *testing.T) (*privacy.Vault, jetstream.JetStream, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	_, _, js := natsdtest.Start(t)
	vault, err := privacy.NewVault(ctx, js, 1)
	if err != nil {
		t.Fatal(err)
	}
	return vault, js, ctx
}

func TestSealAndOpen(t *testing.T) {
	vault, js, ctx := newVault(t)
	keyID, sealed, err := vault.Seal(ctx, "shop", "ann@example.org", "Search is slow, call 0301234567")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("slow")) {
		t.Error("the text can be read")
	}
	text, err := vault.Open(ctx, "shop", keyID, sealed)
	if err != nil || string(text) != "Search is slow, call [phone]" {
		t.Fatalf("got %q, %v", text, err)
	}
	// Another process, with the same bucket.
	again, err := privacy.NewVault(ctx, js, 1)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = again.Open(ctx, "shop", keyID, sealed); err != nil || len(text) == 0 {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err = vault.Open(ctx, "other", keyID, sealed); !errors.Is(err, privacy.ErrErased) {
		t.Errorf("another project opens it: %v", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err = vault.Open(ctx, "shop", keyID, sealed); err == nil || errors.Is(err, privacy.ErrErased) {
		t.Errorf("a changed text opens: %v", err)
	}
	for _, bad := range []string{"", "secret", "x-y", "..-", keyID + "0"} {
		if _, err = vault.Open(ctx, "shop", bad, sealed); err == nil {
			t.Errorf("key %q opens", bad)
		}
	}
	if _, err = vault.Open(ctx, "shop", keyID, nil); err == nil {
		t.Error("nothing opens")
	}
}

// A copy of the bucket that is behind says that there is no key: a user's words would pass for erased, for ever. Only the leader is asked.
func TestOnlyTheLeaderSaysThatAKeyIsGone(t *testing.T) {
	vault, js, ctx := newVault(t)
	copies, err := js.Conn().SubscribeSync("$JS.API.DIRECT.GET.KV_" + privacy.Bucket + ".>")
	if err != nil {
		t.Fatal(err)
	}
	keyID, sealed, err := vault.Seal(ctx, "shop", "ann", "one")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := vault.Open(ctx, "shop", keyID, sealed); err != nil || string(text) != "one" {
		t.Fatalf("got %q, %v", text, err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := copies.Pending(); err != nil || n > 0 {
		t.Errorf("%d questions to whichever copy answers first, %v", n, err)
	}
}

// A key is made again as soon as it was erased, also where a copy of the bucket that is behind still has the one of before: Create of a
// key that was purged asks whichever copy answers, whether it is gone.
func TestKeyIsMadeAgainBesideACopyThatIsBehind(t *testing.T) {
	vault, js, ctx := newVault(t)
	if _, _, err := vault.Seal(ctx, "shop", "ann", "one"); err != nil {
		t.Fatal(err)
	}
	if err := vault.Erase(ctx, "shop", "ann"); err != nil {
		t.Fatal(err)
	}
	copies, err := js.Conn().SubscribeSync("$JS.API.DIRECT.GET.KV_" + privacy.Bucket + ".>")
	if err != nil {
		t.Fatal(err)
	}
	keyID, sealed, err := vault.Seal(ctx, "shop", "ann", "two")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := vault.Open(ctx, "shop", keyID, sealed); err != nil || string(text) != "two" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := copies.Pending(); err != nil || n > 0 {
		t.Errorf("%d questions to whichever copy answers first, %v", n, err)
	}
}

func TestErase(t *testing.T) {
	vault, _, ctx := newVault(t)
	annKey, ann, err := vault.Seal(ctx, "shop", "ann", "one")
	if err != nil {
		t.Fatal(err)
	}
	boKey, bo, err := vault.Seal(ctx, "shop", "bo", "two")
	if err != nil {
		t.Fatal(err)
	}
	if err = vault.Erase(ctx, "shop", "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err = vault.Open(ctx, "shop", annKey, ann); !errors.Is(err, privacy.ErrErased) {
		t.Errorf("after the erasure: %v", err)
	}
	if text, err := vault.Open(ctx, "shop", boKey, bo); err != nil || string(text) != "two" {
		t.Errorf("another user's: %q, %v", text, err)
	}
	// Whoever comes back gets another key; the old words stay unreadable.
	newKey, _, err := vault.Seal(ctx, "shop", "ann", "three")
	if err != nil || newKey == annKey {
		t.Fatalf("key %q after %q, %v", newKey, annKey, err)
	}
	if _, err = vault.Open(ctx, "shop", annKey, ann); !errors.Is(err, privacy.ErrErased) {
		t.Errorf("under the new key: %v", err)
	}
	if err = vault.Erase(ctx, "shop", "nobody"); err != nil {
		t.Errorf("of nobody: %v", err)
	}
}

func TestPseudonym(t *testing.T) {
	vault, _, ctx := newVault(t)
	one, err := vault.Pseudonym(ctx, "shop", "ann")
	if err != nil || len(one) != 32 {
		t.Fatalf("got %q, %v", one, err)
	}
	if same, _ := vault.Pseudonym(ctx, "shop", "ann"); same != one {
		t.Errorf("%q, then %q", one, same)
	}
	if other, _ := vault.Pseudonym(ctx, "other", "ann"); other == one {
		t.Error("projects can be joined by the pseudonym")
	}
	if _, err = vault.Pseudonym(ctx, "a.b", "ann"); err == nil {
		t.Error("a bad name of a project is taken")
	}
}

// TestManyAtOnce: several doors meet a new user at the same moment, and agree on one key.
func TestManyAtOnce(t *testing.T) {
	vault, _, ctx := newVault(t)
	var wg sync.WaitGroup
	ids := make([]string, 16)
	for i := range ids {
		wg.Go(func() {
			id, sealed, err := vault.Seal(ctx, "shop", "ann", "hello")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err = vault.Open(ctx, "shop", id, sealed); err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("two keys: %v", ids)
		}
	}
}
