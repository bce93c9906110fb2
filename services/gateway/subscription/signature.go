package subscription

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Headers of the Standard Webhooks signature.
const (
	HeaderID        = "Webhook-Id"        // the event's id: the same in every try
	HeaderTimestamp = "Webhook-Timestamp" // seconds since 1970, of this try
	HeaderSignature = "Webhook-Signature" // "v1,<base64 of HMAC-SHA256>"
)

// secretPrefix marks a secret whose bytes are given in base64.
const secretPrefix = "whsec_"

const shortestSecret = 16 // bytes

// newSecret makes a signing secret.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(b[:])
}

// keyOf are the bytes of a secret.
func keyOf(secret string) ([]byte, error) {
	key := []byte(secret)
	if encoded, ok := strings.CutPrefix(secret, secretPrefix); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, errors.New("the signing secret is no base64 behind " + secretPrefix)
		}
	}
	if len(key) < shortestSecret {
		return nil, fmt.Errorf("the signing secret has %d bytes; %d at least", len(key), shortestSecret)
	}
	return key, nil
}

// signer signs under a key.
type signer struct {
	mu  sync.Mutex
	mac hash.Hash
	sum [sha256.Size]byte
}

func newSigner(key []byte) *signer { return &signer{mac: hmac.New(sha256.New, key)} }

// lines are the header that signs a body which is sent at a time under an id.
func (s *signer) lines(id string, at time.Time, body []byte) []byte {
	b := make([]byte, 0, 128+len(id)) // has room for all
	b = append(b, id...)
	b = append(b, '.')
	b = strconv.AppendInt(b, at.Unix(), 10)
	b = append(b, '.')
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mac.Reset()
	_, _ = s.mac.Write(b) // never fails
	_, _ = s.mac.Write(body)
	sum := s.mac.Sum(s.sum[:0])

	b = append(b[:0], HeaderID+": "...)
	b = append(b, oneHeader.Replace(id)...)
	b = append(b, "\r\n"+HeaderTimestamp+": "...)
	b = strconv.AppendInt(b, at.Unix(), 10)
	b = append(b, "\r\n"+HeaderSignature+": v1,"...)
	b = base64.StdEncoding.AppendEncode(b, sum)
	return append(b, "\r\n"...)
}

// oneHeader keeps a value in its line.
var oneHeader = strings.NewReplacer("\r", " ", "\n", " ")

// readSecret reads a secret from the project's folder, and from nowhere else.
func readSecret(dir, project, reference string) (string, error) {
	name := strings.TrimPrefix(reference, "secret:")
	if dir == "" {
		return "", errors.New("the gateway has no folder of secrets (LEMNIS_SECRETS_DIR)")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", errors.New("the gateway's folder of secrets can not be opened")
	}
	defer func() { _ = root.Close() }()
	folder, err := root.OpenRoot(project)
	if err != nil {
		return "", fmt.Errorf("there is no folder of secrets for the project %s", project)
	}
	defer func() { _ = folder.Close() }()
	text, err := folder.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("the secret %q can not be read", name)
	}
	return strings.TrimSpace(string(text)), nil
}
