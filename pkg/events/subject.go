package events

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// Partitions is the number of subjects under which the stream stores the aggregates of one
// type: the server replaces the key, the last token, by the key's partition.
const Partitions = 64

const hexDigits = "0123456789ABCDEF"

// EscapeKey makes one subject token of an aggregate's key: letters, digits and a few marks
// stay, every other byte becomes %XX. The empty key becomes "%".
func EscapeKey(key string) string {
	if key == "" {
		return "%"
	}
	plain := true
	for i := range len(key) {
		if !plainByte(key[i]) {
			plain = false
			break
		}
	}
	if plain {
		return key
	}
	var b strings.Builder
	b.Grow(len(key) + 8)
	for i := range len(key) {
		if c := key[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

func plainByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("-_:@/+=!#,~", c) >= 0
}

// UnescapeKey undoes [EscapeKey].
func UnescapeKey(token string) (string, error) {
	if token == "%" {
		return "", nil
	}
	if strings.IndexByte(token, '%') < 0 {
		return token, nil
	}
	out := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		if token[i] != '%' {
			out = append(out, token[i])
			continue
		}
		if i+2 >= len(token) {
			return "", fmt.Errorf("key %q ends within an escape", token)
		}
		hi, lo := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("key %q has a bad escape at %d", token, i)
		}
		out = append(out, byte(hi<<4|lo))
		i += 2
	}
	return string(out), nil
}

// Partition is the number, 0 to 63, under which the stream stores the aggregate with this key:
// FNV-1a of the escaped key, as the server's partition transform computes it.
func Partition(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(EscapeKey(key)))
	return int(h.Sum32() % Partitions)
}

// Subject is the subject to publish the event on, `<kind>.<project>.<phase>.<subject>.<predicate>.<key>`.
// Always publish with the key: the stream hashes it.
func (e Event) Subject(kind Kind) string {
	return string(kind) + "." + e.Project + "." + string(e.Phase) + "." + e.Type.Subject() + "." + e.Type.Predicate() + "." + EscapeKey(e.Key)
}

// Filter is the subject filter for a type of a phase in every project, as the stream stores it.
func Filter(kind Kind, project string, phase Phase, t Type) string {
	or := func(s string) string {
		if s == "" {
			return "*"
		}
		return s
	}
	return string(kind) + "." + or(project) + "." + or(string(phase)) + "." + or(t.Subject()) + "." + or(t.Predicate()) + ".*"
}

// FenceFilter is the filter of all facts of one partition of a phase: the identical string that
// every writer expects the last sequence of.
func FenceFilter(project string, phase Phase, partition int) string {
	return fmt.Sprintf("%s.%s.%s.*.*.%d", Stated, project, phase, partition)
}

// ValidProject reports why a project's name is refused; nil when it is not.
func ValidProject(name string) error {
	if len(name) == 0 || len(name) > 40 {
		return fmt.Errorf("project name %q has to have 1 to 40 characters", name)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("project name %q may hold only a-z, 0-9 and '-'", name)
		}
	}
	return nil
}
