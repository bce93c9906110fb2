package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// proof is how a sender shows that it knows the secret.
type proof struct {
	// signature finds the HMAC SHA-256 of the body among the headers; nil for a sender that sends a token.
	signature func(http.Header) []byte
	// token finds the secret itself among the headers.
	token func(http.Header) string
}

// Offers reports whether the headers carry a proof at all: without one the body need not be read.
func (s Sender) Offers(h http.Header) bool {
	if s.proof.signature != nil {
		return s.proof.signature(h) != nil
	}
	return s.proof.token(h) != ""
}

// Signs reports whether the sender's proof is about the body. Where it is not, Authentic needs none.
func (s Sender) Signs() bool { return s.proof.signature != nil }

// Authentic reports whether the sender knows one of the secrets. How long it takes says nothing of them.
func (s Sender) Authentic(h http.Header, body []byte, secrets []string) bool {
	authentic := false
	for _, secret := range secrets {
		if secret == "" {
			continue // what nobody has set, everybody knows
		}
		if s.knows(h, body, secret) {
			authentic = true
		}
	}
	return authentic
}

func (s Sender) knows(h http.Header, body []byte, secret string) bool {
	if s.proof.signature != nil {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = mac.Write(body) // never fails
		return hmac.Equal(mac.Sum(nil), s.proof.signature(h))
	}
	// Hashed, so that the comparison does not tell the length either.
	got, want := sha256.Sum256([]byte(s.proof.token(h))), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// signatureIn looks at headers in turn. A value is hexadecimal, with "sha256=" before it or without.
func signatureIn(names ...string) func(http.Header) []byte {
	return func(h http.Header) []byte {
		for _, name := range names {
			v := h.Get(name)
			if v == "" {
				continue
			}
			mac, err := hex.DecodeString(strings.TrimPrefix(v, "sha256="))
			if err != nil || len(mac) != sha256.Size {
				return nil
			}
			return mac
		}
		return nil
	}
}

func gitlabToken(h http.Header) string { return h.Get("X-Gitlab-Token") }

// bearer is the token of Authorization: Bearer, or the password of Basic.
func bearer(h http.Header) string {
	if scheme, rest, _ := strings.Cut(h.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	r := http.Request{Header: h}
	_, password, _ := r.BasicAuth()
	return password
}
