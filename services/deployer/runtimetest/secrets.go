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
}

// secretForms are what keys look like that nobody writes by chance: each begins with a fixed word and has a fixed alphabet.
// The words are looked for first, since that is quick. What stands before and behind says nothing: compilers pack constants without
// anything between them. So each form ends by itself, and a key has one fingerprint wherever it stands.
var secretForms = []secretForm{
	{"a private key", []string{"-----BEGIN "}, regexp.MustCompile(`\A-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP )?PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])+(?:[A-Za-z0-9+/=:,.\- \r\n]|\\[nr]){60,}`)},
	{"an access key of AWS", []string{"AKIA", "ASIA"}, regexp.MustCompile(`\A(?:AKIA|ASIA)[A-Z2-7]{16}`)},
	{"a token of GitHub", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`\A(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})`)},
	{"a token of GitLab", []string{"glpat-"}, regexp.MustCompile(`\Aglpat-[A-Za-z0-9_\-]{20}`)},
	{"a token of Slack", []string{"xoxa-", "xoxb-", "xoxp-", "xoxr-"}, regexp.MustCompile(`\Axox[abpr]-[0-9]{8,}-[A-Za-z0-9\-]{20}`)},
	{googles, []string{"AIza"}, regexp.MustCompile(`\AAIza[A-Za-z0-9_\-]{35}`)},
	{"a live key of Stripe", []string{"sk_live_", "rk_live_"}, regexp.MustCompile(`\A[sr]k_live_[A-Za-z0-9]{24}`)},
	{"a token of npm", []string{"npm_"}, regexp.MustCompile(`\Anpm_[A-Za-z0-9]{36}`)},
}

// googles has four letters that tell it: it comes by chance in a long run of base64.
const googles = "a key of Google"

// longRun is how many bytes of base64 on either side make a run long.
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
	var found []string
	harmless := 0
	var at int64 // of the chunk in the file
	buffer, kept := make([]byte, secretChunk+secretOverlap), 0
	for {
		n, err := io.ReadFull(f, buffer[kept:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return fmt.Errorf("the file that runs: %w", err)
		}
		part, whole := buffer[:kept+n], kept+n
		if !last {
			whole -= secretOverlap // what begins later is met whole in the next chunk
		}
		for _, s := range secretForms {
			for _, m := range s.in(part) {
				if m.at >= whole {
					continue
				}
				if slices.Contains(test.Harmless, m.fingerprint) {
					harmless++
					continue
				}
				found = append(found, fmt.Sprintf("%s at byte %d (fingerprint %s)", s.name, at+int64(m.at), m.fingerprint))
			}
		}
		if last {
			break
		}
		kept = copy(buffer, part[whole:])
		at += int64(whole)
	}
	r.Values["found"], r.Values["harmless"] = float64(len(found)), float64(harmless)
	r.Reason = "no key of a known form is in the file that runs"
	if harmless > 0 {
		r.Reason = fmt.Sprintf("no key of a known form is in the file that runs but %d that the project calls harmless", harmless)
	}
	if len(found) > 0 {
		text := strings.Join(found[:min(len(found), mostNamed)], ", ")
		if more := len(found) - mostNamed; more > 0 {
			text += fmt.Sprintf(", and %d more", more)
		}
		return fmt.Errorf("it holds %s", text)
	}
	return nil
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
			if len(m) > 0 && !bytes.HasSuffix(m, []byte("EXAMPLE")) && (s.name != googles || !inRun(text, at, at+len(m))) { // AWS's documentation has one
				sum := sha256.Sum256(m)
				all = append(all, keyFound{at, hex.EncodeToString(sum[:8])})
			}
			at += len(word)
		}
	}
	return all
}

// inRun reports whether a place of a text lies within a long run of base64.
func inRun(text []byte, from, to int) bool {
	if from < longRun || len(text)-to < longRun {
		return false
	}
	other := func(r rune) bool { return !isBase64(r) }
	return !bytes.ContainsFunc(text[from-longRun:from], other) && !bytes.ContainsFunc(text[to:to+longRun], other)
}

func isBase64(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("+/-_", r)
}
