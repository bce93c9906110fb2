package attest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lemnis/lemnis/pkg/events"
)

// ErrSignature says that no trusted key signed an envelope, or that it holds something else.
var ErrSignature = errors.New("no signature of a trusted key")

// Signer signs with a private key, Ed25519 or ECDSA over P-256.
type Signer struct {
	key crypto.Signer
	id  string
}

var _ dsse.Signer = Signer{}

// ParsePrivate reads a private key: PEM, PKCS #8 or SEC 1.
func ParsePrivate(text []byte) (Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return Signer{}, errors.New("the signing key is no PEM")
	}
	var parsed any
	var err error
	if block.Type == "EC PRIVATE KEY" {
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return Signer{}, errors.New("the signing key cannot be read") // the error might tell of it
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return Signer{}, fmt.Errorf("a key of the kind %T signs nothing", parsed)
	}
	if err := check(key.Public()); err != nil {
		return Signer{}, err
	}
	id, err := dsse.SHA256KeyID(key.Public())
	return Signer{key: key, id: id}, err
}

func check(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	}
	return fmt.Errorf("a key has to be Ed25519, or ECDSA over P-256, not %T", key)
}

// KeyID is the key's fingerprint: SHA256:… of its public half.
func (s Signer) KeyID() (string, error) { return s.id, nil }

// Public is the key's public half, which verifies.
func (s Signer) Public() crypto.PublicKey { return s.key.Public() }

// Sign signs what dsse hands it.
func (s Signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	if _, ok := s.key.(ed25519.PrivateKey); ok {
		return s.key.Sign(rand.Reader, data, crypto.Hash(0))
	}
	sum := sha256.Sum256(data)
	return s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// Envelope is a signed statement.
type Envelope struct {
	JSON      []byte // DSSE
	Signature string // base64
	Key       string // fingerprint of the key that signed
}

// Seal puts a statement into a signed envelope.
func (s Signer) Seal(ctx context.Context, statement Statement) (Envelope, error) {
	payload, err := json.Marshal(statement)
	if err != nil {
		return Envelope{}, fmt.Errorf("sign: %w", err)
	}
	seal, err := dsse.NewEnvelopeSigner(s)
	if err != nil {
		return Envelope{}, fmt.Errorf("sign: %w", err)
	}
	signed, err := seal.SignPayload(ctx, StatementType, payload)
	if err != nil {
		return Envelope{}, fmt.Errorf("sign: %w", err)
	}
	text, err := json.Marshal(signed)
	return Envelope{JSON: text, Signature: signed.Signatures[0].Sig, Key: s.id}, err
}

// Key is a public key that is trusted.
type Key struct {
	key crypto.PublicKey
	id  string
}

var _ dsse.Verifier = Key{}

// ParsePublic reads a public key: PEM, PKIX.
func ParsePublic(text []byte) (Key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return Key{}, errors.New("the public key is no PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("the public key cannot be read: %w", err)
	}
	if err := check(parsed); err != nil {
		return Key{}, err
	}
	id, err := dsse.SHA256KeyID(parsed)
	return Key{key: parsed, id: id}, err
}

// KeyID is the key's fingerprint.
func (k Key) KeyID() (string, error) { return k.id, nil }

// Public is the key itself.
func (k Key) Public() crypto.PublicKey { return k.key }

// Verify judges a signature of what dsse hands it.
func (k Key) Verify(_ context.Context, data, signature []byte) error {
	ok := false
	switch key := k.key.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, data, signature)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(data)
		ok = ecdsa.VerifyASN1(key, sum[:], signature)
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

// Signature is one that a trusted key made.
type Signature struct {
	Text string // base64
	Key  string // the key's fingerprint
}

// Origin opens an envelope and holds what it states to an artifact of a project: that it covers all of the digests, and is of the commit
// (of any, when empty) and of one of the project's own repositories (of any, when there are none). The error says what is not so.
func Origin(ctx context.Context, envelope []byte, trusted []Key, own []events.RepositoryRef, commit string, digests ...string) (Statement, Signature, error) {
	statement, by, err := Open(ctx, envelope, trusted)
	switch {
	case err != nil:
		return Statement{}, Signature{}, err
	case slices.ContainsFunc(digests, func(digest string) bool { return !statement.Covers(digest) }):
		return Statement{}, Signature{}, errors.New("what is signed is another artifact")
	case commit != "" && statement.Commit() != commit:
		return Statement{}, Signature{}, fmt.Errorf("what is signed is of commit %s, not %s", statement.Commit(), commit)
	case !among(statement.Repository(), own):
		return Statement{}, Signature{}, fmt.Errorf("what is signed is of the repository %.300q, which is none of the project's repositories", Source(statement.Repository()))
	}
	return statement, by, nil
}

// mostSignatures of one envelope: for each the whole payload is hashed, and whoever may push to the registry writes envelopes.
const mostSignatures = 20

// Open verifies an envelope with the keys that are trusted, and returns its statement and the signature of one of them, whatever
// else signed it. The error wraps ErrSignature.
func Open(ctx context.Context, envelope []byte, trusted []Key) (Statement, Signature, error) {
	none := func(err error) (Statement, Signature, error) {
		return Statement{}, Signature{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	var e dsse.Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return none(err)
	}
	if e.PayloadType != StatementType {
		return none(fmt.Errorf("it holds %.100q", e.PayloadType))
	}
	if len(trusted) == 0 {
		return none(errors.New("no key is trusted"))
	}
	if len(e.Signatures) > mostSignatures {
		return none(fmt.Errorf("it has %d signatures; %d are looked at", len(e.Signatures), mostSignatures))
	}
	verifiers := make([]dsse.Verifier, len(trusted))
	for i, k := range trusted {
		verifiers[i] = k
	}
	verify, err := dsse.NewEnvelopeVerifier(verifiers...)
	if err != nil {
		return none(err)
	}
	accepted, payload, err := verify.VerifyAndDecode(ctx, &e)
	if err != nil {
		return none(err)
	}
	var s Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return none(err)
	}
	if s.Type != statementSchema || s.PredicateType != ProvenanceType {
		return none(fmt.Errorf("it states %.100q of %.100q", s.PredicateType, s.Type))
	}
	return s, Signature{Text: accepted[0].Sig.Sig, Key: accepted[0].KeyID}, nil
}
