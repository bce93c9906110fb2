package document

import (
	"fmt"
	"strings"
)

// Error says what is wrong at one place of the file. Line and column count from 1.
type Error struct {
	File         string
	Line, Column int
	Field        string // path: "environments[1].gate.coverage"; empty for the file as a whole
	Reason       string
}

// Error is "file:line:column: field: reason".
func (e Error) Error() string {
	at := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Field != "" {
		at += e.Field + ": "
	}
	return at + e.Reason
}

// Errors lists everything that is wrong with a file, in its order.
type Errors []Error

// Error is one line an error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}
