package up_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
)

func options(data string) up.Options {
	return up.Options{Data: data, HTTP: "127.0.0.1:0", NATSListen: "127.0.0.1:0"}
}

const config = `project: shop
repositories: [{name: api, url: /srv/api.git}]
`

func TestStartStopStart(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	data := t.TempDir()
	file := filepath.Join(t.TempDir(), "project.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(data)
	o.Config = file
	began := time.Now()
	stack, stop := uptest.Run(t, o)
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))

	var addresses up.Addresses
	body, err := os.ReadFile(filepath.Join(data, up.AddressFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &addresses); err != nil || addresses != stack.Addresses() || addresses.HTTP != stack.URL() {
		t.Errorf("%s says %+v, want %+v: %v", up.AddressFile, addresses, stack.Addresses(), err)
	}
	configured := func(want int) {
		t.Helper()
		client := api.New(stack.URL())
		defer client.Close()
		found, err := client.Events(t.Context(), api.Query{Project: "shop", Type: "project.configured"})
		if err != nil || len(found) != 2*want { // claim and fact
			t.Errorf("%d events, want %d: %v", len(found), 2*want, err)
		}
	}
	configured(1)
	if _, err := up.New(t.Context(), options(data)); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("a second one on the same data: %v", err)
	}
	stop()
	if _, err := os.Stat(filepath.Join(data, up.AddressFile)); err == nil {
		t.Errorf("%s is still there", up.AddressFile)
	}

	o.Config = ""
	stack, stop = uptest.Run(t, o)
	configured(1)
	stop()
}

func TestRefusals(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "project.yaml")
	if err := os.WriteFile(broken, []byte("project: shop\nreview: {approvls: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		change     func(*up.Options)
	}{
		{"no data", "no data folder", func(o *up.Options) { o.Data = "" }},
		{"HTTP for everybody", "nobody is authenticated", func(o *up.Options) { o.HTTP = "0.0.0.0:0" }},
		{"HTTP of all interfaces", "nobody is authenticated", func(o *up.Options) { o.HTTP = ":0" }},
		{"NATS for everybody", "nobody is authenticated", func(o *up.Options) { o.NATSListen = "192.0.2.1:4222" }},
		{"no address", "no host:port", func(o *up.Options) { o.HTTP = "8080" }},
		{"unknown durability", "fsync", func(o *up.Options) { o.Durability = "always" }},
		{"a broken project file", "project.yaml:2:", func(o *up.Options) { o.Config = broken }},
		{"no project file", "--config", func(o *up.Options) { o.Config = broken + ".not" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := options(t.TempDir())
			test.change(&o)
			stack, err := up.New(t.Context(), o)
			if err == nil {
				_ = stack.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// A part that fails takes the others down, and the error says which it was.
func TestOccupiedAddress(t *testing.T) {
	first, stop := uptest.Run(t, options(t.TempDir()))
	defer stop()
	o := options(t.TempDir())
	o.HTTP = strings.TrimPrefix(first.URL(), "http://")
	if _, err := up.New(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--http") {
		t.Errorf("%v", err)
	}
	// What it had taken is free again.
	o.HTTP = "127.0.0.1:0"
	_, stopSecond := uptest.Run(t, o)
	stopSecond()
}
