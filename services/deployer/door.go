package deployer

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/services/deployer/keeper"
)

// Door is where users reach what is deployed; the zero value is this machine's loopback. Whoever reaches it is a user: what
// is deployed authenticates them.
type Door struct {
	Listen              string // IP address to listen on; empty: 127.0.0.1
	Host                string // name in the URLs; empty: the address. A container's own address is nobody's name
	FirstPort, LastPort int    // that services get; zero: where there is room
}

func (d Door) listen() string {
	if d.Listen == "" {
		return "127.0.0.1"
	}
	return d.Listen
}

// shows says whether an open door is where this one says that users come in: it may be of a deployer that was configured otherwise.
func (d Door) shows(open keeper.Door) bool {
	host, port, err := net.SplitHostPort(open.Addr)
	if err != nil {
		return false
	}
	is, want := net.ParseIP(host), net.ParseIP(d.listen())
	url := "http://" + open.Addr
	if d.Host != "" {
		url = "http://" + net.JoinHostPort(d.Host, port)
	}
	return open.URL == url && (is.Equal(want) || is.IsUnspecified() && want.IsUnspecified())
}

// ReadDoor reads LEMNIS_PROXY_LISTEN, LEMNIS_PROXY_HOST and LEMNIS_PROXY_PORTS (first-last); get is os.Getenv but for tests.
func ReadDoor(get func(string) string) (Door, error) {
	d := Door{Listen: get("LEMNIS_PROXY_LISTEN"), Host: get("LEMNIS_PROXY_HOST")}
	if d.Listen != "" && net.ParseIP(d.Listen) == nil {
		return Door{}, fmt.Errorf("LEMNIS_PROXY_LISTEN %q is no IP address", d.Listen)
	}
	if ip := net.ParseIP(d.Listen); ip != nil && ip.IsUnspecified() && d.Host == "" {
		return Door{}, fmt.Errorf("LEMNIS_PROXY_LISTEN %s is every address: LEMNIS_PROXY_HOST has to say by which name users come", d.Listen)
	}
	span := get("LEMNIS_PROXY_PORTS")
	if span == "" {
		return d, nil
	}
	first, last, _ := strings.Cut(span, "-")
	var errFirst, errLast error
	d.FirstPort, errFirst = strconv.Atoi(first)
	d.LastPort, errLast = strconv.Atoi(last)
	if errFirst != nil || errLast != nil || d.FirstPort < 1 || d.LastPort > 65535 || d.FirstPort > d.LastPort {
		return Door{}, fmt.Errorf("LEMNIS_PROXY_PORTS %q is no range like 20000-20031", span)
	}
	return d, nil
}

// ReadFront is the command that makes this program a front, and reads LEMNIS_FRONT_ALONE, how long that one goes on without
// a deployer: 10 min when it is empty.
func ReadFront(get func(string) string) (command []string, alone time.Duration, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, 0, fmt.Errorf("the front's program: %w", err)
	}
	if text := get("LEMNIS_FRONT_ALONE"); text != "" {
		if alone, err = time.ParseDuration(text); err != nil || alone <= 0 {
			return nil, 0, fmt.Errorf("LEMNIS_FRONT_ALONE %q is no duration like 10m", text)
		}
	}
	return []string{program}, alone, nil
}
