package integration_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	v05 "github.com/cdevents/sdk-go/pkg/api/v05"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// watch starts `lemnis events tail` as a program, and returns what gives its lines once it has told of the last event.
func watch(t *testing.T, url string) func(last events.Event) [][]byte {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, filepath.Join(dir, "lemnis"), nil, "events", "tail", "--from", "0", "-o", "json", "--server", url)
	return func(last events.Event) [][]byte {
		t.Helper()
		limit, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
		defer tick.Stop()
		for {
			text, err := os.ReadFile(p.log.Name())
			if err != nil {
				t.Fatal(err)
			}
			if at := bytes.LastIndexByte(text, '\n'); at >= 0 && bytes.Contains(text[:at], []byte(`"id":"`+last.ID+`"`)) {
				return bytes.Split(text[:at], []byte("\n"))
			}
			select {
			case <-limit:
				t.Fatalf("lemnis events tail does not tell of %s", last.ID)
			case <-p.done:
				t.Fatalf("lemnis events tail ended with %v: %s", p.err, text)
			case <-tick.C:
			}
		}
	}
}

// officialLines has each line judged as an outsider does, who knows CloudEvents and CDEvents and nothing of Lemnis.
func officialLines(t *testing.T, lines [][]byte) (known, custom int) {
	t.Helper()
	for _, line := range lines {
		var e struct {
			SpecVersion, ID, Source, Type, Subject string
			Data                                   json.RawMessage
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Errorf("no JSON: %v: %.300s", err, line)
			continue
		}
		if err := schema.Validate(e.Data); err != nil {
			t.Errorf("%s %s: %v", e.Type, e.ID, err)
		}
		read, err := v05.NewFromJsonBytes(e.Data)
		if err != nil {
			t.Errorf("%s %s: the official SDK: %v", e.Type, e.ID, err)
			continue
		}
		typ := read.GetType()
		if own, ok := read.(*v05.CustomTypeEvent); ok {
			typ = own.Context.Type // the SDK's GetType knows only that it is a custom one
			custom++
		} else {
			known++
		}
		if read.GetId() != e.ID || read.GetSource() != e.Source || read.GetSubjectId() != e.Subject || typ.String() != e.Type || e.SpecVersion != "1.0" {
			t.Errorf("%s %s from %s of %s is %s %s from %s of %s to the official SDK",
				e.Type, e.ID, e.Source, e.Subject, typ, read.GetId(), read.GetSource(), read.GetSubjectId())
		}
	}
	return known, custom
}
