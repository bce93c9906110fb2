//go:build linux

package runtimetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

type secretForm struct {
	name  string
	words []string
	form  *regexp.Regexp
	// chance reports whether what is from here to there in a text, its word first, may have come about without being a key; nil: never.
	chance func(text []byte, from, word, to int) bool
}

// secretForms are what keys look like that nobody writes by chance: each begins with a fixed word and has a fixed alphabet.
// The words are looked for first, since that is quick. What stands before and behind says little: compilers pack constants without
// anything between them. So each form ends by itself, and a key has one fingerprint wherever it stands.
var secretForms = []secretForm{
	{"a private key", []string{"-----BEGIN "}, regexp.MustCompile(`\A-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP )?PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])+(?:[A-Za-z0-9+/=:,.\- \r\n]|\\[nr]){60,}`), prose},
	{"an access key of AWS", []string{"AKIA", "ASIA"}, regexp.MustCompile(`\A(?:AKIA|ASIA)[A-Z2-7]{16}`), amongCapitals},
	{"a token of GitHub", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`\A(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})`), ofNames},
	{"a token of GitLab", []string{"glpat-"}, regexp.MustCompile(`\Aglpat-[A-Za-z0-9_\-]{20}`), ofNames},
	{"a token of Slack", []string{"xoxa-", "xoxb-", "xoxp-", "xoxr-"}, regexp.MustCompile(`\Axox[abpr]-[0-9]{8,}-[A-Za-z0-9\-]{20}`), nil},
	// Four letters tell it, which come by chance in a long run of base64.
	{"a key of Google", []string{"AIza"}, regexp.MustCompile(`\AAIza[A-Za-z0-9_\-]{35}`), func(text []byte, from, word, to int) bool {
		return inRun(text, from, to, isBase64) || ofNames(text, from, word, to)
	}},
	{"a live key of Stripe", []string{"sk_live_", "rk_live_"}, regexp.MustCompile(`\A[sr]k_live_[A-Za-z0-9]{24}`), ofNames},
	{"a token of npm", []string{"npm_"}, regexp.MustCompile(`\Anpm_[A-Za-z0-9]{36}`), ofNames},
}

// keyed is how the text of a private key begins: with a header, or a line of base64 that is DER, OpenSSH's word or OpenPGP's packet of a
// secret key. So no other text is one that a compiler packed behind the first line of a key.
var keyed = regexp.MustCompile(`\A-----BEGIN [A-Z ]+-----(?:\s|\\[nr])+(?:(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): |b3BlbnNzaC1rZXktdjE[A-Za-z0-9+/]{21}|[Mlx][A-Za-z0-9+/]{39})`)

// prose reports whether what stands behind the first line of a private key is none.
func prose(text []byte, from, _, to int) bool { return !keyed.Match(text[from:to]) }

// amongCapitals reports whether a key of AWS is part of a list of words in capitals that nothing parts, as RFC 1760 has one: it has no
// digit, as one of 28 keys, and is no word of its own. Or of a long run of base32.
func amongCapitals(text []byte, from, _, to int) bool {
	if inRun(text, from, to, isBase32) {
		return true
	}
	beside := func(at int) bool {
		return at >= 0 && at < len(text) && (text[at] >= 'A' && text[at] <= 'Z' || text[at] >= '0' && text[at] <= '9')
	}
	return !bytes.ContainsAny(text[from:to], "234567") && (beside(from-1) || beside(to))
}

// ofNames reports whether a token is made of names that a compiler packed behind its first word, as behind "rk_live_" in a program that
// looks for such: more than half of what was drawn by lot are capitals and digits, and of names less than a quarter; or all.
func ofNames(text []byte, from, word, to int) bool {
	small, great := 0, 0
	for _, b := range text[from+word : to] {
		switch {
		case b >= 'a' && b <= 'z':
			small++
		case b >= 'A' && b <= 'Z' || b >= '0' && b <= '9':
			great++
		}
	}
	return small == 0 || 4*great < small+great
}

// longRun is how many bytes of an alphabet on either side make a run long.
const longRun = 64

const (
	secretChunk   = 1 << 20
	secretOverlap = 1 << 10 // no form needs more bytes to be known by
)

// Secrets wants no key of a known form in the file that runs.
type Secrets struct {
	// Harmless are the fingerprints of keys that open nothing, as a result's reason tells them.
	Harmless []string `json:"harmless,omitempty"`
}

// secrets looks for keys in the file that runs. The reason says what is where, not what it is.
func secrets(instance Instance, test Secrets, r *Result) error {
	f, err := os.Open(instance.file())
	if err != nil {
		return fmt.Errorf("the file that runs: %w", err)
	}
	defer func() { _ = f.Close() }()
	found, err := keysOf(f, test.Harmless)
	if err != nil {
		return fmt.Errorf("the file that runs: %w", err)
	}
	r.Values["found"], r.Values["harmless"] = float64(found.count), float64(found.harmless)
	r.Reason = "no key of a known form is in the file that runs"
	if found.harmless > 0 {
		r.Reason = fmt.Sprintf("no key of a known form is in the file that runs but %d that the project calls harmless", found.harmless)
	}
	if found.count > 0 {
		text := strings.Join(found.first, ", ")
		if more := found.count - len(found.first); more > 0 {
			text += fmt.Sprintf(", and %d more", more)
		}
		return fmt.Errorf("it holds %s", text)
	}
	return nil
}

// keysFound are the keys of a file; few of them are named.
type keysFound struct {
	count, harmless int
	first           []string
}

func keysOf(file io.Reader, harmless []string) (found keysFound, err error) {
	var at int64 // of the chunk in the file
	buffer, kept, known := make([]byte, longRun+secretChunk+secretOverlap), 0, 0
	for {
		n, err := io.ReadFull(file, buffer[kept:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return found, err
		}
		part, whole := buffer[:kept+n], kept+n
		if !last {
			whole -= secretOverlap // what begins later is met whole in the next chunk
		}
		for _, s := range secretForms {
			for _, m := range s.in(part) {
				switch {
				case m.at < known || m.at >= whole:
				case slices.Contains(harmless, m.fingerprint):
					found.harmless++
				default:
					if found.count++; len(found.first) < mostNamed {
						found.first = append(found.first, fmt.Sprintf("%s at byte %d (fingerprint %s)", s.name, at+int64(m.at), m.fingerprint))
					}
				}
			}
		}
		if last {
			return found, nil
		}
		known = min(whole, longRun) // stands before what is looked at next
		kept = copy(buffer, part[whole-known:])
		at += int64(whole - known)
	}
}

type keyFound struct {
	at          int
	fingerprint string // tells one from another, and nothing of what it is
}

// in is where the form is in a text.
func (s secretForm) in(text []byte) (all []keyFound) {
	for _, word := range s.words {
		for at := 0; ; {
			i := bytes.Index(text[at:], []byte(word))
			if i < 0 {
				break
			}
			at += i
			m := s.form.Find(text[at:min(at+secretOverlap, len(text))])
			m, _, _ = bytes.Cut(m, []byte("-----END"))
			if len(m) > 0 && !bytes.HasSuffix(m, []byte("EXAMPLE")) && (s.chance == nil || !s.chance(text, at, len(word), at+len(m))) { // AWS's documentation has one
				sum := sha256.Sum256(m)
				all = append(all, keyFound{at, hex.EncodeToString(sum[:8])})
			}
			at += len(word)
		}
	}
	return all
}

// inRun reports whether a place of a text lies within a long run of an alphabet.
func inRun(text []byte, from, to int, of func(rune) bool) bool {
	if from < longRun || len(text)-to < longRun {
		return false
	}
	other := func(r rune) bool { return !of(r) }
	return !bytes.ContainsFunc(text[from-longRun:from], other) && !bytes.ContainsFunc(text[to:to+longRun], other)
}

func isBase64(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("+/-_", r)
}

func isBase32(r rune) bool { return r >= 'A' && r <= 'Z' || r >= '2' && r <= '7' }
