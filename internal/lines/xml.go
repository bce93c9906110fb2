package lines

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// XML decodes a report in XML as tools write it: also in Latin-1, as it is mostly called, and with what a failing test printed in it,
// such as the colours of a terminal, as they are or by their numbers (&#x1b;). What XML does not allow becomes U+FFFD. XML 1.1 is read
// as 1.0, which allows less.
func XML(in io.Reader) *xml.Decoder {
	clean := &allowed{in: bufio.NewReader(in)}
	d := xml.NewDecoder(clean)
	d.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		switch strings.ToLower(charset) {
		case "us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-15", "windows-1252", "cp1252":
			clean.latin = true
			return clean, nil
		}
		return nil, fmt.Errorf("of the encodings UTF-8, ISO-8859-1 and windows-1252 are read, and not %q", charset)
	}
	return d
}

// allowed makes UTF-8 of the characters that XML allows of what is read. The decoder takes it byte by byte: what comes behind the
// declaration is read as that says.
type allowed struct {
	in    *bufio.Reader
	latin bool
	buf   [utf8.UTFMax]byte
	rest  []byte // of the character or of the declaration that was read last
	until string // end of the comment or of the CDATA that is read, in which a reference is none; empty: neither
}

// Read is there for those who ask for a reader; the decoder reads bytes.
func (a *allowed) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := a.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// ReadByte returns the next byte of the clean text.
func (a *allowed) ReadByte() (byte, error) {
	if len(a.rest) > 0 {
		b := a.rest[0]
		a.rest = a.rest[1:]
		return b, nil
	}
	b, err := a.in.ReadByte()
	if err == nil && a.marked(b) {
		r := utf8.EncodeRune(a.buf[:], utf8.RuneError)
		a.rest = a.buf[1:r]
		return a.buf[0], nil
	}
	if err != nil || b >= ' ' && b < utf8.RuneSelf || b == '\n' || b == '\r' || b == '\t' {
		return b, err
	}
	r := rune(b)
	switch {
	case b < ' ':
		r = utf8.RuneError
	case !a.latin:
		if err := a.in.UnreadByte(); err != nil {
			return 0, err
		}
		if r, _, err = a.in.ReadRune(); err != nil {
			return 0, err
		}
		if r == 0xFFFE || r == 0xFFFF {
			r = utf8.RuneError
		}
	}
	n := utf8.EncodeRune(a.buf[:], r)
	a.rest = a.buf[1:n]
	return a.buf[0], nil
}

var (
	declaration = regexp.MustCompile(`\A\?xml\s[^<>]*?\bversion\s*=\s*["']1\.(1)["'][^<>]*\?>`)
	reference   = regexp.MustCompile(`\A#(?:x([0-9a-fA-F]+)|([0-9]+));`)
)

const (
	longestDeclaration = 256
	longestReference   = 32
)

// marked looks at what a byte begins, and reports whether that was a reference to a character that XML does not allow, which is taken.
func (a *allowed) marked(b byte) bool {
	next := func(most int) []byte {
		text, _ := a.in.Peek(most) // what there is
		return text
	}
	switch {
	case a.until != "":
		if b == a.until[0] && string(next(len(a.until)-1)) == a.until[1:] {
			a.until = ""
		}
	case b == '<':
		switch text := next(len("![CDATA[")); {
		case string(text) == "![CDATA[":
			a.until = "]]>"
		case bytes.HasPrefix(text, []byte("!--")):
			a.until = "-->"
		case bytes.HasPrefix(text, []byte("?xml")):
			if m := declaration.FindSubmatchIndex(next(longestDeclaration)); m != nil {
				a.rest = bytes.Clone(next(m[1]))
				a.rest[m[2]] = '0'
				_, _ = a.in.Discard(m[1])
			}
		}
	case b == '&':
		m := reference.FindSubmatch(next(longestReference))
		if m == nil {
			return false
		}
		digits, base := m[2], 10
		if len(m[1]) > 0 {
			digits, base = m[1], 16
		}
		if n, err := strconv.ParseUint(string(digits), base, 32); err != nil || !isChar(n) {
			_, _ = a.in.Discard(len(m[0]))
			return true
		}
	}
	return false
}

// isChar reports whether a character may be in a document of XML 1.0.
func isChar(n uint64) bool {
	return n == '\t' || n == '\n' || n == '\r' || n >= ' ' && n < 0xD800 || n >= 0xE000 && n < 0xFFFE || n >= 0x10000 && n <= utf8.MaxRune
}
