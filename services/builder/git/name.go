package git

import (
	"fmt"
	"strings"
)

// CheckBranch says whether name can be a branch: git's own rules (check-ref-format), and in
// addition no leading dash, which git would read as an option. The error wraps ErrBadName.
func CheckBranch(name string) error {
	if name == "HEAD" || strings.HasPrefix(name, "refs/") {
		return fmt.Errorf("%w: branch %q", ErrBadName, name)
	}
	return checkRef(name)
}

func checkRef(name string) error {
	bad := func(why string) error { return fmt.Errorf("%w: %q %s", ErrBadName, clip(name), why) }
	switch {
	case name == "" || name == "@":
		return bad("is no name")
	case len(name) > 200:
		return bad("is longer than 200 bytes")
	case strings.HasPrefix(name, "-"):
		return bad("starts with a dash")
	case strings.HasSuffix(name, "."):
		return bad("ends with a dot")
	case strings.Contains(name, "..") || strings.Contains(name, "@{"):
		return bad("is a revision expression")
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return bad("has an empty, dotted or .lock part")
		}
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(`~^:?*[\`, r) {
			return bad(fmt.Sprintf("holds %q", r))
		}
	}
	return nil
}

// isID says whether s is a full object name (SHA-1 or SHA-256, lower-case hex).
func isID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

func checkIDs(ids ...string) error {
	for _, id := range ids {
		if !isID(id) {
			return fmt.Errorf("%w: %q is no full object name", ErrBadName, clip(id))
		}
	}
	return nil
}

func checkURL(url string) error {
	switch {
	case url == "" || strings.HasPrefix(url, "-"):
		return fmt.Errorf("%w: url %q", ErrBadName, clip(url))
	case strings.ContainsAny(url, "\n\r\x00"):
		return fmt.Errorf("%w: url with a control character", ErrBadName)
	}
	// "ext::sh -c …" would run a command; GIT_ALLOW_PROTOCOL refuses it too.
	if before, _, found := strings.Cut(url, "::"); found && !strings.ContainsAny(before, "/[") {
		return fmt.Errorf("%w: url %q names a transport helper", ErrBadName, clip(url))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
