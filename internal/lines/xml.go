package lines

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// XML decodes a report in XML as tools write it: also in Latin-1, as it is mostly called, and with what a failing test printed in it,
// such as the colours of a terminal. What XML does not allow becomes U+FFFD.
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
	rest  []byte // of the character that was read last
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
