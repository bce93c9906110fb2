// Package lines reads reports that other programs write: how they begin, by which their format is told, and line by line.
package lines

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Longest line of a report that is read, in bytes.
const Longest = 1 << 20

const byteOrderMark = "\xef\xbb\xbf"

// Start is the beginning of a report, up to 512 bytes, without a byte order mark and white space around it; nothing is taken
// from in.
func Start(in *bufio.Reader) (string, error) {
	start, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(bytes.TrimSpace(bytes.TrimPrefix(start, []byte(byteOrderMark)))), nil
}

// Each calls read with each line, without its end and a byte order mark before the first, and puts the line's number, from 1, on its errors. A line that is longer
// than Longest is an error.
func Each(in io.Reader, read func(line string) error) error {
	all := bufio.NewScanner(in)
	all.Buffer(nil, Longest)
	n := 0
	for all.Scan() {
		line := all.Text()
		if n++; n == 1 {
			line = strings.TrimPrefix(line, byteOrderMark)
		}
		if err := read(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	return nil
}
