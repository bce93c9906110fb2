package secret

import (
	"errors"
	"net/url"
	"strings"
)

// Redact hides the passwords of addresses that are separated by commas, so that they can be shown: of one that is no URL, all
// before its last @.
func Redact(addresses string) string {
	all := strings.Split(addresses, ",")
	for i, address := range all {
		if u, err := url.Parse(address); err == nil && u.Host != "" {
			all[i] = u.Redacted()
		} else if at := strings.LastIndex(address, "@"); at >= 0 {
			all[i] = "xxxxx" + address[at:]
		}
	}
	return strings.Join(all, ",")
}

// RedactError is an error about addresses that may quote them, as one that does not: what is wrong with a URL is not said,
// since what a parser takes for a port or a path may be the end of a password.
func RedactError(err error) error {
	var malformed *url.Error
	if errors.As(err, &malformed) && malformed.Op == "parse" {
		return errors.New("it is no URL (a password in it has to be escaped: %40 for @, %2F for /)")
	}
	return err
}
