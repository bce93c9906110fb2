package definition

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/document"
)

// A file comes from whoever pushes. 64 KiB of brackets took the parser a minute and 6 GiB, and with them the builder.
func TestNestingIsBounded(t *testing.T) {
	for name, text := range map[string]string{
		"open brackets":   strings.Repeat("[", 65_000),
		"closed brackets": "steps: " + strings.Repeat("[", 32_000) + strings.Repeat("]", 32_000),
		"mappings":        "steps: " + strings.Repeat("{a: ", 16_000),
		"both":            "steps: " + strings.Repeat("[a: ", 16_000),
		"lines":           strings.Repeat("[\n", 32_000),
		"entries":         strings.Repeat("- ", 32_000),
		"keys":            strings.Repeat("? ", 32_000),
	} {
		begun := time.Now()
		_, err := Parse("f", []byte(text))
		if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "is nested more than 50 deep") || took > 5*time.Second {
			t.Errorf("%s: %.200v after %s", name, err, took)
		}
	}
	deep := "steps: [{name: a, run: 'x', matrix: {A: [" + strings.Repeat("'[',", 60) + "']']}}]"
	if _, err := Parse("f", []byte(deep)); err != nil && strings.Contains(err.Error(), "nested") {
		t.Errorf("brackets in texts are no nesting: %v", err)
	}
}

// Whoever is told a bound makes the file fit it.
func TestTheBoundThatIsToldHolds(t *testing.T) {
	const step = "steps: [{name: a, run: x}]\n#"
	for size, wrong := range map[int]bool{1 << 16: false, 1<<16 + 1: true, 1 << 21: true} {
		_, _, err := Load(tree(File+"|"+step+strings.Repeat("x", size-len(step))), "")
		if (err != nil) != wrong || wrong && !strings.Contains(err.Error(), "65536") {
			t.Errorf("%d bytes: %.300v", size, err)
		}
	}
}

// What is said of a file is part of an event, which has a bound.
func TestMistakesAreBounded(t *testing.T) {
	var many document.Errors
	_, err := Parse("f", []byte("steps: ["+strings.Repeat("a,", 30_000)+"]"))
	if !errors.As(err, &many) || len(many) != 51 || !strings.Contains(many[50].Reason, "more mistakes") || many[50].Line != 1 {
		t.Errorf("%d mistakes: %.300v", len(many), err)
	}
	for _, text := range []string{
		"steps: [{run: x, name: " + strings.Repeat("é", 20_000) + "}]",
		"steps: [{run: x, name: a}]\n" + strings.Repeat("é", 20_000) + ": 1",
	} {
		if _, err := Parse("f", []byte(text)); err == nil || len(err.Error()) > 2000 {
			t.Errorf("%d bytes: %.100v", len(err.Error()), err)
		}
	}
}

// Editors of some systems write it, and nobody sees it.
func TestByteOrderMark(t *testing.T) {
	if _, err := Parse("f", []byte("\uFEFFsteps: [{name: a, run: x}]\n")); err != nil {
		t.Error(err)
	}
}
