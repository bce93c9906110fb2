package schema

import "bytes"

// reader holds a JSON text against a shape while it goes over it. Its methods take the index where something begins and
// return the one behind it, or 0 when it is not there for certain.
type reader struct {
	text []byte
}

const (
	deepest   = 64 // levels of nesting
	mostNames = 16 // of an object, beside those that its shape knows
)

func (r *reader) space(i int) int {
	for i < len(r.text) && (r.text[i] == ' ' || r.text[i] == '\n' || r.text[i] == '\t' || r.text[i] == '\r') {
		i++
	}
	return i
}

// at is the byte there, 0 behind the end.
func (r *reader) at(i int) byte {
	if i < len(r.text) {
		return r.text[i]
	}
	return 0
}

func (r *reader) value(s *shape, i, depth int) int {
	if s.beyond || depth > deepest {
		return 0
	}
	end := r.own(s, i, depth)
	if end == 0 {
		return 0
	}
	for _, other := range s.also {
		if r.value(other, i, depth+1) == 0 {
			return 0
		}
	}
	if s.either == nil {
		return end
	}
	for _, one := range s.either {
		if r.value(one, i, depth+1) > 0 {
			return end
		}
	}
	return 0
}

// own is what the shape itself demands.
func (r *reader) own(s *shape, i, depth int) int {
	switch c := r.at(i); c {
	case '{':
		if s.kinds&object == 0 {
			return 0
		}
		return r.object(s, i, depth)
	case '[':
		if s.kinds&array == 0 {
			return 0
		}
		return r.array(s, i, depth)
	case '"':
		return r.string(s, i)
	case 't':
		return r.word(s, i, "true", boolean)
	case 'f':
		return r.word(s, i, "false", boolean)
	case 'n':
		return r.word(s, i, "null", null)
	default:
		return r.number(s, i)
	}
}

func (r *reader) word(s *shape, i int, word string, kind int) int {
	end := i + len(word)
	if s.kinds&kind == 0 || end > len(r.text) || string(r.text[i:end]) != word {
		return 0
	}
	return end
}

func (r *reader) string(s *shape, i int) int {
	if s.kinds&text == 0 {
		return 0
	}
	end, plain := r.quoted(i)
	if end == 0 {
		return 0
	}
	inside := r.text[i+1 : end-1]
	if s.least > 0 && !atLeast(inside, s.least, plain) {
		return 0
	}
	if s.choice != nil && (!plain || !s.choice[string(inside)]) {
		return 0
	}
	return end
}

// atLeast counts characters; of a string with escapes only that there is one is certain.
func atLeast(inside []byte, n int, plain bool) bool {
	if n == 1 {
		return len(inside) > 0
	}
	if !plain {
		return false
	}
	count := 0
	for _, c := range inside {
		if c&0xC0 != 0x80 { // the first byte of a character
			count++
		}
	}
	return count >= n
}

// quoted goes over a string; plain says that it has no escapes.
func (r *reader) quoted(i int) (end int, plain bool) {
	plain = true
	for i++; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			return i + 1, plain
		case c < ' ':
			return 0, false
		case c == '\\':
			plain = false
			i++
			switch r.at(i) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					i++
					if !hexadecimal(r.at(i)) {
						return 0, false
					}
				}
			default:
				return 0, false
			}
		}
	}
	return 0, false
}

func hexadecimal(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (r *reader) number(s *shape, i int) int {
	kind := integer
	if r.at(i) == '-' {
		if s.natural {
			return 0
		}
		i++
	}
	switch c := r.at(i); {
	case c == '0':
		i++
	case c >= '1' && c <= '9':
		i = r.digits(i)
	default:
		return 0
	}
	if r.at(i) == '.' {
		kind = number
		if i = r.digits(i + 1); i == 0 {
			return 0
		}
	}
	if r.at(i)|0x20 == 'e' {
		kind = number
		i++
		if c := r.at(i); c == '+' || c == '-' {
			i++
		}
		if i = r.digits(i); i == 0 {
			return 0
		}
	}
	if s.kinds&kind == 0 {
		return 0
	}
	return i
}

// digits goes over one or more.
func (r *reader) digits(i int) int {
	begin := i
	for c := r.at(i); c >= '0' && c <= '9'; c = r.at(i) {
		i++
	}
	if i == begin {
		return 0
	}
	return i
}

func (r *reader) array(s *shape, i, depth int) int {
	i = r.space(i + 1)
	if r.at(i) == ']' {
		return i + 1
	}
	for {
		end := r.value(s.items, i, depth+1)
		if end == 0 {
			return 0
		}
		switch i = r.space(end); r.at(i) {
		case ']':
			return i + 1
		case ',':
			i = r.space(i + 1)
		default:
			return 0
		}
	}
}

// object goes over an object, and sees to it that no name is there twice.
func (r *reader) object(s *shape, i, depth int) int {
	var met uint64              // numbers of members
	var names [mostNames][]byte // of others
	others := 0
	i = r.space(i + 1)
	if r.at(i) == '}' {
		if s.required != 0 {
			return 0
		}
		return i + 1
	}
	for {
		if r.at(i) != '"' {
			return 0
		}
		end, plain := r.quoted(i)
		if end == 0 || !plain {
			return 0
		}
		name := r.text[i+1 : end-1]
		of := s.others
		if m, ok := s.members[string(name)]; ok {
			if met&(1<<m.number) != 0 {
				return 0
			}
			met |= 1 << m.number
			of = m.shape
		} else {
			if of == nil || others == mostNames || among(names[:others], name) || s.nearly(string(name)) != "" {
				return 0
			}
			names[others] = name
			others++
		}
		if i = r.space(end); r.at(i) != ':' {
			return 0
		}
		if end = r.value(of, r.space(i+1), depth+1); end == 0 {
			return 0
		}
		switch i = r.space(end); r.at(i) {
		case '}':
			if met&s.required != s.required {
				return 0
			}
			return i + 1
		case ',':
			i = r.space(i + 1)
		default:
			return 0
		}
	}
}

func among(names [][]byte, name []byte) bool {
	for _, n := range names {
		if bytes.Equal(n, name) {
			return true
		}
	}
	return false
}
