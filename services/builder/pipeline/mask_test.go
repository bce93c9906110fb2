package pipeline

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// However a text is cut into pieces, what comes out is what a mask of the whole makes of it, and holds no secret.
func TestMaskAcrossPieces(t *testing.T) {
	secrets := []string{"hunter2", "hunter22", "aaab", "two\nlines", "abc"} // abc is too short to be one
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"hunter2", "hunter22", "hun", "ter2", "a", "aaab", "b", "lines", "two", "\n", "x", "\x1b[1m", "abc"})).Draw(t, "text"), "")
		var whole, pieces bytes.Buffer
		m := newMask(secrets, &whole)
		_, _ = m.Write([]byte(text))
		_ = m.Flush()
		m = newMask(secrets, &pieces)
		for rest := []byte(text); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if _, err := m.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		_ = m.Flush()
		if whole.String() != pieces.String() {
			t.Fatalf("whole %q, in pieces %q", whole.String(), pieces.String())
		}
		for _, secret := range []string{"hunter2", "aaab", "lines"} {
			if strings.Contains(pieces.String(), secret) {
				t.Fatalf("%q holds %q", pieces.String(), secret)
			}
		}
	})
}
