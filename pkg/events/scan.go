package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// The envelope of an event is read by hand: encoding/json would pass over each body twice and
// reflect on a dozen fields that are always the same. Here values are only delimited; every one
// of them is then judged by whoever decodes it, with encoding/json where it is more than a
// plain string. Names match exactly, as they do in the schemas, and of two members of one name
// the last one counts.

var errSyntax = errors.New("malformed JSON")

// members calls f for each member of a JSON object with its name and its raw value.
func members(object []byte, f func(name, value []byte) error) error {
	i := skipSpace(object, 0)
	if i == len(object) || object[i] != '{' {
		return errSyntax
	}
	i = skipSpace(object, i+1)
	for first := true; ; first = false {
		switch {
		case i == len(object):
			return errSyntax
		case first && object[i] == '}':
			return ended(object, i+1)
		case object[i] != '"':
			return errSyntax
		}
		end := valueEnd(object, i)
		if end < 0 {
			return errSyntax
		}
		name := object[i+1 : end-1]
		if !plainText(name) {
			var s string
			if err := json.Unmarshal(object[i:end], &s); err != nil {
				return errSyntax
			}
			name = []byte(s)
		}
		i = skipSpace(object, end)
		if i == len(object) || object[i] != ':' {
			return errSyntax
		}
		i = skipSpace(object, i+1)
		if end = valueEnd(object, i); end < 0 {
			return errSyntax
		}
		if err := f(name, object[i:end]); err != nil {
			return err
		}
		i = skipSpace(object, end)
		switch {
		case i == len(object):
			return errSyntax
		case object[i] == '}':
			return ended(object, i+1)
		case object[i] != ',':
			return errSyntax
		}
		i = skipSpace(object, i+1)
	}
}

// elements calls f for each element of a JSON array with its raw value.
func elements(array []byte, f func(value []byte) error) error {
	i := skipSpace(array, 0)
	if i == len(array) || array[i] != '[' {
		return errSyntax
	}
	i = skipSpace(array, i+1)
	if i < len(array) && array[i] == ']' {
		return ended(array, i+1)
	}
	for {
		end := valueEnd(array, i)
		if end < 0 {
			return errSyntax
		}
		if err := f(array[i:end]); err != nil {
			return err
		}
		i = skipSpace(array, end)
		switch {
		case i == len(array):
			return errSyntax
		case array[i] == ']':
			return ended(array, i+1)
		case array[i] != ',':
			return errSyntax
		}
		i = skipSpace(array, i+1)
	}
}

func ended(data []byte, i int) error {
	if skipSpace(data, i) != len(data) {
		return errSyntax
	}
	return nil
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// valueEnd is the index after the value that begins at i; −1 when it has no end.
func valueEnd(data []byte, i int) int {
	if i == len(data) {
		return -1
	}
	switch data[i] {
	case '"':
		return stringEnd(data, i)
	case '{', '[':
		depth := 0
		for ; i < len(data); i++ {
			switch data[i] {
			case '"':
				if i = stringEnd(data, i) - 1; i < 0 {
					return -1
				}
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return -1
	}
	start := i
	for i < len(data) && bytes.IndexByte([]byte(",]} \n\t\r"), data[i]) < 0 {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// stringEnd is the index after the closing quote of the string that begins at i; −1 without one.
func stringEnd(data []byte, i int) int {
	for i++; ; {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return -1
		}
		i += n + 1
		back := i - 2
		for data[back] == '\\' {
			back-- // stops at the opening quote at the latest
		}
		if (i-2-back)%2 == 0 {
			return i
		}
	}
}

// plainText reports whether the inside of a JSON string stands for itself.
func plainText(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c >= 0x80 || c == '\\' {
			return false
		}
	}
	return true
}

// text decodes a JSON string; null is the empty one, as encoding/json has it.
func text(to *string, raw []byte, path string) error {
	if n := len(raw); n >= 2 && raw[0] == '"' && plainText(raw[1:n-1]) {
		*to = string(raw[1 : n-1])
		return nil
	}
	*to = ""
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%w: %s is no string", ErrNotCDEvent, path)
	}
	return nil
}

// unreadable says why a body could not be walked, in the words of encoding/json.
func unreadable(data []byte, err error) error {
	if !errors.Is(err, errSyntax) {
		return err
	}
	var object struct{ Context, Subject struct{} }
	if err := json.Unmarshal(data, &object); err != nil {
		return fmt.Errorf("%w: %w", ErrNotCDEvent, err)
	}
	return fmt.Errorf("%w: %w", ErrNotCDEvent, errSyntax)
}
