package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
)

// The algorithms of digests that the distribution specification registers. The length of a digest's digits names its
// algorithm, so a file can be named by them alone.
const (
	algorithm256 = "sha256"
	algorithm512 = "sha512"
)

func isDigest(s string) bool {
	algorithm, digits, _ := strings.Cut(s, ":")
	return algorithm != "" && algorithm == algorithmOf(digits) && strings.Trim(digits, "0123456789abcdef") == ""
}

// algorithmOf names the algorithm of so many digits; empty when there is none.
func algorithmOf(digits string) string {
	switch len(digits) {
	case 2 * sha256.Size:
		return algorithm256
	case 2 * sha512.Size:
		return algorithm512
	}
	return ""
}

func newHash(algorithm string) hash.Hash {
	if algorithm == algorithm512 {
		return sha512.New()
	}
	return sha256.New()
}

func sumOf(algorithm string, h hash.Hash) string {
	return algorithm + ":" + hex.EncodeToString(h.Sum(nil))
}

// digits of a digest name its file.
func digits(digest string) string {
	_, hexes, _ := strings.Cut(digest, ":")
	return hexes
}

func algorithm(digest string) string {
	name, _, _ := strings.Cut(digest, ":")
	return name
}
