package subscription

import (
	"bytes"
	"strconv"
)

// plain is the status of an answer that says that an event was taken, is all there, and is out of the ordinary in nothing; 0 for any
// other, which is left to net/http. Nearly all answers are so, and their headers tell nothing that is of use.
func plain(data []byte) (status int) {
	const begin = "HTTP/1.1 2"
	head, body, whole := bytes.Cut(data, []byte("\r\n\r\n"))
	if !whole || !bytes.HasPrefix(head, []byte(begin)) {
		return 0
	}
	line, rest, more := bytes.Cut(head, []byte("\r\n"))
	if len(line) < len(begin)+3 || !printable(line) {
		return 0
	}
	tens, ones, after := line[len(begin)], line[len(begin)+1], line[len(begin)+2]
	if !isDigit(tens) || !isDigit(ones) || after != ' ' {
		return 0
	}
	status = 200 + 10*int(tens-'0') + int(ones-'0')
	length := -1
	for more {
		line, rest, more = bytes.Cut(rest, []byte("\r\n"))
		name, value, named := bytes.Cut(line, []byte(":"))
		if !named || len(name) == 0 || !printable(line) || !isName(name) {
			return 0
		}
		switch {
		case is(name, "content-length"):
			value = bytes.TrimSpace(value)
			n, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil || length >= 0 || !isDigit(value[0]) {
				return 0
			}
			length = int(n)
		case is(name, "connection"), is(name, "transfer-encoding"), is(name, "trailer"), is(name, "upgrade"):
			return 0
		}
	}
	if status == 204 && length < 0 {
		length = 0
	}
	if length != len(body) || status == 204 && length > 0 {
		return 0
	}
	return status
}

func is(name []byte, lower string) bool {
	return len(name) == len(lower) && bytes.EqualFold(name, []byte(lower))
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isName(name []byte) bool {
	for _, b := range name {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && !isDigit(b) && b != '-' && b != '_' {
			return false
		}
	}
	return true
}

func printable(line []byte) bool {
	for _, b := range line {
		if b < ' ' && b != '\t' || b > '~' {
			return false
		}
	}
	return true
}
