package privacy

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// Bucket is the JetStream bucket of the data keys.
const Bucket = "KEYS"

const (
	keyBytes        = 32 // AES-256
	generationBytes = 8
	pseudonymBytes  = 16
	secretName      = "secret" // no pseudonym: those have 32 letters
	attempts        = 5        // at a key that others make and erase at the same time
)

// ErrErased says that the key of a text is gone, and the text with it.
var ErrErased = errors.New("the key is erased")

// ErrUnreadable says that a text was never sealed so: the id of its key is none, or it was changed. Trying again is useless.
var ErrUnreadable = errors.New("the text cannot be read")

// Vault seals and opens users' words. It may be used by several processes at once.
type Vault struct {
	kv jetstream.KeyValue
	js jetstream.JetStream
}

// NewVault opens the bucket of keys, and makes it when it is not there; replicas as for streams.
func NewVault(ctx context.Context, js jetstream.JetStream, replicas int) (*Vault, error) {
	// History of one: an erased key must not live on as an older revision.
	kv, err := natsd.EnsureBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: Bucket, Description: "data keys of users", History: 1, Storage: jetstream.FileStorage, Replicas: replicas,
	})
	if err != nil {
		return nil, err
	}
	return &Vault{kv: kv, js: js}, nil
}

// Pseudonym is the name under which a user appears in events: the same for the same user of a
// project, and not to be guessed from it.
func (v *Vault) Pseudonym(ctx context.Context, project, user string) (string, error) {
	if err := events.ValidProject(project); err != nil {
		return "", err
	}
	secret, err := v.entry(ctx, project+"."+secretName, keyBytes)
	if err != nil {
		return "", err
	}
	h := hmac.New(sha256.New, secret)
	_, _ = h.Write([]byte(user)) // a hash takes everything
	return hex.EncodeToString(h.Sum(nil)[:pseudonymBytes]), nil
}

// Seal masks a user's words and encrypts them under the user's key, which it makes when there is
// none. keyID is what Open needs; it names the key, not the user.
func (v *Vault) Seal(ctx context.Context, project, user, plaintext string) (keyID string, ciphertext []byte, err error) {
	pseudonym, err := v.Pseudonym(ctx, project, user)
	if err != nil {
		return "", nil, err
	}
	entry, err := v.entry(ctx, project+"."+pseudonym, generationBytes+keyBytes)
	if err != nil {
		return "", nil, err
	}
	keyID = pseudonym + "-" + hex.EncodeToString(entry[:generationBytes])
	aead, err := newAEAD(entry[generationBytes:])
	if err != nil {
		return "", nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err = io.ReadFull(rand.Reader, nonce); err != nil {
		return "", nil, fmt.Errorf("make a nonce: %w", err)
	}
	return keyID, aead.Seal(nonce, nonce, []byte(Mask(plaintext)), bound(project, keyID)), nil
}

// Open decrypts what Seal made. The error is [ErrErased] when the key is gone,
// [ErrUnreadable] when it was never sealed so; any other is worth another try.
func (v *Vault) Open(ctx context.Context, project, keyID string, ciphertext []byte) ([]byte, error) {
	pseudonym, generation, ok := strings.Cut(keyID, "-")
	if err := events.ValidProject(project); err != nil {
		return nil, err
	}
	if raw, err := hex.DecodeString(pseudonym); !ok || err != nil || len(raw) != pseudonymBytes {
		return nil, fmt.Errorf("%w: %q is no id of a key", ErrUnreadable, keyID)
	}
	stored, err := natsd.Latest(ctx, v.js, Bucket, project+"."+pseudonym)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, ErrErased
	}
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	entry := stored.Value
	if len(entry) != generationBytes+keyBytes {
		return nil, fmt.Errorf("key %q has %d bytes", keyID, len(entry))
	}
	if hex.EncodeToString(entry[:generationBytes]) != generation {
		return nil, ErrErased
	}
	aead, err := newAEAD(entry[generationBytes:])
	if err != nil {
		return nil, err
	}
	if len(ciphertext) < aead.NonceSize() {
		return nil, fmt.Errorf("%w: it is cut short", ErrUnreadable)
	}
	plaintext, err := aead.Open(nil, ciphertext[:aead.NonceSize()], ciphertext[aead.NonceSize():], bound(project, keyID))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not belong to key %q, or was changed", ErrUnreadable, keyID)
	}
	return plaintext, nil
}

// Erase deletes a user's key. Erasing a user who has none is no error.
func (v *Vault) Erase(ctx context.Context, project, user string) error {
	pseudonym, err := v.Pseudonym(ctx, project, user)
	if err != nil {
		return err
	}
	if err := v.kv.Purge(ctx, project+"."+pseudonym); err != nil {
		return fmt.Errorf("erase a key: %w", err)
	}
	return nil
}

// entry reads a secret of n random bytes, and makes it when there is none: whoever creates it
// first wins.
func (v *Vault) entry(ctx context.Context, name string, n int) ([]byte, error) {
	for range attempts {
		stored, err := natsd.Latest(ctx, v.js, Bucket, name)
		if err == nil {
			if len(stored.Value) != n {
				return nil, fmt.Errorf("a key has %d bytes, not %d", len(stored.Value), n)
			}
			return stored.Value, nil
		}
		if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, fmt.Errorf("read a key: %w", err)
		}
		fresh := make([]byte, n)
		if _, err = io.ReadFull(rand.Reader, fresh); err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		if _, err = v.kv.Update(ctx, name, fresh, stored.Revision); err == nil {
			return fresh, nil
		}
		if !natsd.Overtaken(err) {
			return nil, fmt.Errorf("store a key: %w", err)
		}
	}
	return nil, errors.New("a key is made and erased faster than it can be read")
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return cipher.NewGCM(block)
}

// bound is what a ciphertext is tied to beside its key.
func bound(project, keyID string) []byte { return []byte(project + "/" + keyID) }
