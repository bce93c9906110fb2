package excerpt_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lemnis/lemnis/internal/excerpt"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{"", 0, ""},
		{"find", 4, "find"},
		{"find", 3, "fin…"},
		{"find", 0, "…"},
		{"né", 3, "né"},
		{"née", 3, "né…"},
		{"née", 2, "n…"},
		{"日本", 5, "日…"},
		{"日本", 2, "…"},
		{"a\xffb", 3, "a\xffb"},
		{"a\xffbc", 3, "ab…"},
	} {
		if got := excerpt.Of(tt.text, tt.most); got != tt.want {
			t.Errorf("%q up to %d is %q, want %q", tt.text, tt.most, got, tt.want)
		}
	}
	long := strings.Repeat("é𝄞", 100)
	for most := range len(long) {
		if got := excerpt.Of(long, most); !utf8.ValidString(got) || len(got) > most+len("…") || len(got) < most-2 {
			t.Errorf("up to %d: %q", most, got)
		}
	}
}
