package deployer

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadDoor(t *testing.T) {
	for _, tt := range []struct{ listen, host, ports, wrong string }{
		{},
		{listen: "0.0.0.0", host: "deployer", ports: "20000-20031"},
		{listen: "127.0.0.1", ports: "20000-20000"},
		{listen: "0.0.0.0", wrong: "LEMNIS_PROXY_HOST"},
		{listen: "::", wrong: "LEMNIS_PROXY_HOST"},
		{listen: "deployer", host: "deployer", wrong: "no IP address"},
		{ports: "20000", wrong: "no range"},
		{ports: "20031-20000", wrong: "no range"},
		{ports: "0-5", wrong: "no range"},
		{ports: "65000-66000", wrong: "no range"},
	} {
		env := map[string]string{"LEMNIS_PROXY_LISTEN": tt.listen, "LEMNIS_PROXY_HOST": tt.host, "LEMNIS_PROXY_PORTS": tt.ports}
		d, err := ReadDoor(func(name string) string { return env[name] })
		switch {
		case tt.wrong == "" && err != nil, tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%v: %v", env, err)
		case tt.ports == "20000-20031" && (d.FirstPort != 20000 || d.LastPort != 20031):
			t.Errorf("%+v", d)
		}
	}
}

// Of a range the lowest ports are given first, each service keeps its own over a restart, and when all are taken it says so.
func TestPortsOfARange(t *testing.T) {
	file, door := filepath.Join(t.TempDir(), "ports.json"), Door{FirstPort: 20000, LastPort: 20002}
	p, err := openPorts(file, door)
	if err != nil {
		t.Fatal(err)
	}
	give := func(p *ports, name string) (got int, err error) {
		err = p.listen(name, func(port int) error { got = port; return nil })
		if err == nil {
			err = p.remember(name, got)
		}
		return got, err
	}
	for i := range 3 {
		if got, err := give(p, fmt.Sprintf("shop/%d", i)); err != nil || got != 20000+i {
			t.Errorf("%d: %d, %v", i, got, err)
		}
	}
	if got, err := give(p, "shop/3"); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("the fourth of three got %d, %v", got, err)
	}
	if p, err = openPorts(file, door); err != nil {
		t.Fatal(err)
	}
	if got, err := give(p, "shop/1"); err != nil || got != 20001 {
		t.Errorf("after a restart: %d, %v", got, err)
	}
}

func TestReadFront(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "90s": 90 * time.Second, "0s": -1, "-1m": -1, "long": -1} {
		command, alone, err := ReadFront(func(string) string { return text })
		if (err != nil) != (want < 0) || err == nil && (alone != want || len(command) != 1) {
			t.Errorf("%q: %v %v %v", text, command, alone, err)
		}
	}
}
