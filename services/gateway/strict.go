package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode"
)

// repeatedMember finds a name that an object of a JSON text has twice; empty when there is none. Readers differ in
// which of the two they take, so that what was judged need not be what is acted on. same makes names equal that are taken
// for one another; nil: only a name itself is.
func repeatedMember(text []byte, same func(string) string) (string, error) {
	type level struct {
		names map[string]bool // nil in an array
		value bool            // the next token is a value
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var open []level
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		top := len(open) - 1
		if name, ok := token.(string); ok && top >= 0 && open[top].names != nil && !open[top].value {
			known := name
			if same != nil {
				known = same(name)
			}
			if open[top].names[known] {
				return name, nil
			}
			open[top].names[known], open[top].value = true, true
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
			continue
		case json.Delim('['):
			open = append(open, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
		}
		if top = len(open) - 1; top >= 0 {
			open[top].value = false
		}
	}
}

// folded is one for all names that encoding/json takes for the same member: case does not count, also not that of the
// Kelvin sign and the long s.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, name)
}
