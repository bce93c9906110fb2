package git

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Secret is what an origin asks for: over https a token, or user:password; over ssh a private key as OpenSSH and PEM have it. It is
// asked for each time, so that one that was replaced is taken at once. Nil: nothing.
type Secret func() (string, error)

// ErrNoSecret says that an origin's secret can not be had, or is none of the kind that its address takes.
var ErrNoSecret = errors.New("no secret for the repository")

// Authorize has the origin be asked with another secret from now on.
func (r *Repository) Authorize(secret Secret) {
	r.asking.Lock()
	defer r.asking.Unlock()
	r.secret = secret
}

// What a helper of git's says; where its words stand no other process reads them.
const helper = `!f() { test "$1" != get || printf 'username=%s\npassword=%s\n' "$LEMNIS_GIT_USER" "$LEMNIS_GIT_PASSWORD"; }; f`

// tokenUser is the name beside a token: hosts look at the token only, and refuse an empty name.
const tokenUser = "x-access-token"

// remote asks the origin, with its secret. Neither an argument nor a file that stays has that.
func (r *Repository) remote(run func(env []string) (string, error)) (string, error) {
	r.asking.Lock()
	ask := r.secret
	r.asking.Unlock()
	if ask == nil {
		return run(nil)
	}
	secret, err := ask()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoSecret, err)
	}
	u, err := url.Parse(r.origin)
	switch {
	case err == nil && (u.Scheme == "https" || u.Scheme == "http"):
		user, password, both := strings.Cut(secret, ":")
		if !both {
			user, password = tokenUser, secret
		}
		if password == "" || strings.ContainsAny(secret, "\r\n\x00") {
			return "", fmt.Errorf("%w: over https it is one line: a token, or user:password", ErrNoSecret)
		}
		// Of this host only: git asks anew where it is sent elsewhere.
		return run([]string{
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=credential." + u.Scheme + "://" + u.Host + ".helper", "GIT_CONFIG_VALUE_0=" + helper,
			"LEMNIS_GIT_USER=" + user, "LEMNIS_GIT_PASSWORD=" + password,
		})
	case err == nil && u.Scheme == "ssh", !strings.Contains(r.origin, "://") && !strings.HasPrefix(r.origin, "/") && strings.Contains(r.origin, ":"):
		if !strings.Contains(secret, "PRIVATE KEY-----") {
			return "", fmt.Errorf("%w: over ssh it is a private key", ErrNoSecret)
		}
		key, err := r.keyFile(secret)
		if err != nil {
			return "", err
		}
		defer func() { _ = os.Remove(key) }()
		return run([]string{"GIT_SSH_COMMAND=ssh -oBatchMode=yes -oIdentitiesOnly=yes -oIdentityAgent=none -i '" + strings.ReplaceAll(key, "'", `'\''`) + "'"})
	}
	return "", fmt.Errorf("%w: %s takes none; https and ssh do", ErrNoSecret, r.origin)
}

// keyFile is a file with a key, for ssh takes it from nowhere else. By its name it is removed with the locks that a killed builder left.
func (r *Repository) keyFile(key string) (string, error) {
	file, err := os.CreateTemp(r.dir, "key-*.lock") // 0600
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(strings.TrimSpace(key) + "\n") // without its end ssh does not read it
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}
