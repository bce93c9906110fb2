package privacy

import (
	"regexp"
	"strings"
	"unicode"
)

// What stands in for what was masked.
const (
	maskedURL    = "[link]"
	maskedEMail  = "[e-mail]"
	maskedCard   = "[card]"
	maskedPhone  = "[phone]"
	maskedNumber = "[number]"
)

var (
	// A URL that carries credentials: user information, or a parameter that is named like a secret.
	credentialURL = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://(?:[^\s/?#@]*@\S*|\S*[?&#;](?:[a-z0-9_.-]*(?:token|secret|passw(?:or)?d|pwd|signature|api_?key|access_?key|auth|session|code|sig|key))=\S*)`)
	email         = regexp.MustCompile(`(?i)[\p{L}\p{N}._%+'-]+\s?(?:@|\(at\)|\[at\])\s?[\p{L}\p{N}-]+(?:\s?(?:\.|\(dot\)|\[dot\])\s?[\p{L}\p{N}-]+)+`)
	// Digits with single separators between them, as cards and telephones are written.
	digits = regexp.MustCompile(`\+?\(?\p{Nd}(?:[ .\-/()\x{00a0}\x{2009}\x{202f}\x{2011}\x{2013}]{0,3}\p{Nd})+`)
)

const (
	phoneDigits  = 7 // the fewest of a telephone number
	numberDigits = 6 // the fewest of a run without separators that may be an account
)

// Mask takes out of a text what could name a person or open a door: e-mail addresses, telephone
// and card numbers, long runs of digits, and URLs with credentials. Words in brackets stand in.
// Dates and prices stay: feedback is about them.
func Mask(text string) string {
	text = credentialURL.ReplaceAllString(text, maskedURL)
	text = email.ReplaceAllString(text, maskedEMail)
	return digits.ReplaceAllStringFunc(text, maskDigits)
}

var (
	date  = regexp.MustCompile(`^(?:\d{4}([-./])\d{1,2}([-./])\d{1,2}|\d{1,2}([-./])\d{1,2}([-./])\d{4})$`)
	clock = regexp.MustCompile(`^(?:\d{4}-\d{2}-\d{2} \d{1,2})$`)
)

func maskDigits(s string) string {
	var only []byte
	run, longest := 0, 0
	for _, r := range s {
		if d := digit(r); d >= 0 {
			only = append(only, byte(d))
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	n := len(only)
	switch {
	case n >= 13 && n <= 19 && luhn(only):
		return maskedCard
	case date.MatchString(s) || clock.MatchString(s):
		return s
	case n >= phoneDigits && n <= 15 && (strings.HasPrefix(s, "+") || s[0] == '(' || longest < n || only[0] == 0):
		return maskedPhone
	case longest >= numberDigits || n > 15:
		return maskedNumber
	}
	return s
}

// digit is the value of a decimal digit of any script, −1 for another rune. Unicode keeps each
// script's ten digits together, and their zero is the first of a block.
func digit(r rune) int {
	if r >= '0' && r <= '9' {
		return int(r - '0')
	}
	if r < 0x80 || !unicode.IsDigit(r) {
		return -1
	}
	n := 0
	for n < 9 && unicode.IsDigit(r-rune(n)-1) {
		n++
	}
	return n
}

// luhn is the check digit of card numbers.
func luhn(d []byte) bool {
	sum := 0
	for i := range d {
		v := int(d[len(d)-1-i])
		if i%2 == 1 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}
