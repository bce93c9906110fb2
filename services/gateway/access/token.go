package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

const (
	tokenPrefix = "lmn_"
	idBytes     = 8
	secretBytes = 32
	longestName = 63
)

// Token is what is known of a token beside its secret.
type Token struct {
	Name     string     `json:"name"` // the principal
	Scopes   []Scope    `json:"scopes"`
	Created  time.Time  `json:"created"`
	By       string     `json:"by"` // principal who made it
	Expires  *time.Time `json:"expires,omitempty"`
	Rotated  *time.Time `json:"rotated,omitempty"`
	OldUntil *time.Time `json:"oldUntil,omitempty"` // the secret of before the last rotation is good until then
}

// record is a token as it is stored.
type record struct {
	Token
	Current  secretHash  `json:"current"`
	Previous *secretHash `json:"previous,omitempty"`
}

type secretHash struct {
	ID   string `json:"id"`
	Hash []byte `json:"sha256"`
}

// newSecret makes a token's text, and what is kept of it.
func newSecret() (text string, kept secretHash) {
	var b [idBytes + secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	id, secret := hex.EncodeToString(b[:idBytes]), base64.RawURLEncoding.EncodeToString(b[idBytes:])
	sum := sha256.Sum256([]byte(secret))
	return tokenPrefix + id + "_" + secret, secretHash{ID: id, Hash: sum[:]}
}

// cutToken takes a token's text apart.
func cutToken(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(rest) > 200 {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	return id, secret, ok && len(id) == 2*idBytes && secret != ""
}

// is compares in a time that tells nothing of the secret.
func (h secretHash) is(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(sum[:], h.Hash) == 1
}

var (
	// ErrUnknownToken says that nobody has this token; whether it was revoked is not told.
	ErrUnknownToken = errors.New("the token is not known, or was revoked")
	// ErrExpired says that the token's time is over.
	ErrExpired = errors.New("the token has expired")
	// ErrExists says that a name is taken.
	ErrExists = errors.New("there is a token of that name already")
	// ErrNotFound says that no token has the name.
	ErrNotFound = errors.New("there is no token of that name")
)

// CheckName says why a name cannot be a principal's; nil when it can. It becomes one token of a subject.
func CheckName(name string) error {
	switch {
	case !isName(name):
		return fmt.Errorf("the name %q has to be 1 to %d of a-z, 0-9, '-' and '_', beginning with a letter or digit", name, longestName)
	case events.ReservedPrincipal(name):
		return fmt.Errorf("the name %q is reserved", name)
	}
	return nil
}

func isName(name string) bool {
	if name == "" || len(name) > longestName || name[0] == '-' || name[0] == '_' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
