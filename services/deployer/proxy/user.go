package proxy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"strings"
)

// The marks of a user.
const (
	UserHeader = "X-User"
	UserCookie = "lemnis_user"
)

// identify names the request's user, and the cookie to set (the value of Set-Cookie) when the request has no mark of its own.
func identify(r *http.Request) (user, set string) {
	if user = r.Header.Get(UserHeader); user != "" {
		return user, ""
	}
	if c, err := r.Cookie(UserCookie); err == nil && c.Value != "" {
		return c.Value, ""
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return newMark(r.Header.Get("Accept"), host)
}

// newMark is for a user without one.
func newMark(accept, host string) (user, set string) {
	if strings.Contains(accept, "text/html") {
		user = rand.Text()
	} else {
		sum := sha256.Sum256([]byte("lemnis_user " + host))
		user = hex.EncodeToString(sum[:10])
	}
	return user, markBefore + user + markAfter
}

// markBefore and markAfter are the cookie of a user around the mark. It is not Secure: the front speaks plain HTTP, and the mark
// grants nothing.
const (
	markBefore = UserCookie + "="
	markAfter  = "; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax" // a year
)

// place is the user's number in [0, 1) for a rollout: the same in every process.
func place(service, version, user string) float64 {
	h := fnv.New64a()
	for _, s := range []string{service, version, user} {
		_, _ = io.WriteString(h, s)
		_, _ = h.Write([]byte{0})
	}
	x := h.Sum64() // FNV mixes its high bits badly; the finaliser of splitmix64 does it
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}
