package builder_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// A history is what a stream once held, one structured CloudEvent a line. Today's code has to
// make the same facts of the same causes. A difference is a change of meaning: raise the fold's
// Version, and record a new history beside the old one; a recorded file is never changed.
var record = flag.Bool("record", false, "record the histories that are not there yet")

var histories = map[string]func(*world){"lap": lap}

func TestHistories(t *testing.T) {
	for name, play := range histories {
		file := filepath.Join("testdata", "histories", name+".jsonl")
		if _, err := os.Stat(file); err != nil && *record {
			w := newWorld(shop(1))
			play(w)
			var out bytes.Buffer
			for _, e := range w.log {
				e.Source, e.Time = "/"+string(e.Phase), e.Stored
				line, err := events.EncodeStructured(e)
				must(err)
				out.Write(append(line, '\n'))
			}
			must(os.MkdirAll(filepath.Dir(file), 0o755))
			must(os.WriteFile(file, out.Bytes(), 0o600))
		}
		all := readHistory(t, file)
		for _, difference := range replay(all) {
			t.Errorf("%s: %s", name, difference)
		}
		// Replaying can fail: a fact that is missing, made up or changed is noticed.
		at := slices.IndexFunc(all, func(e events.Event) bool { _, ok := e.Content.(events.QueueTested); return ok })
		madeUp, changed := all[at], slices.Clone(all)
		madeUp.Key = "99"
		c := changed[at].Content.(events.QueueTested)
		c.Merge.Commit = commit("another")
		changed[at].Content = c
		for what, spoilt := range map[string][]events.Event{
			"missing": slices.Delete(slices.Clone(all), at, at+1), "made up": append(slices.Clone(all), madeUp), "changed": changed,
		} {
			if len(replay(spoilt)) == 0 {
				t.Errorf("%s: a fact that is %s is not noticed", name, what)
			}
		}
	}
}

func readHistory(t *testing.T, file string) (all []events.Event) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		e, _, err := events.DecodeStructured(line)
		if err != nil {
			t.Fatalf("%s:%d: %v", file, len(all)+1, err)
		}
		e.Stored = e.Time
		all = append(all, e)
	}
	return all
}

// replay decides over the causes in order, folding the recorded facts, and says where a decision
// is not what was recorded.
func replay(all []events.Event) (differences []string) {
	w := newWorld(shop(1))
	facts := map[string]events.Event{}
	place := func(kind, key string, cause uint64) string {
		return fmt.Sprintf("%s/%s for cause %d", kind, key, cause)
	}
	for _, e := range all {
		if e.Kind == events.Stated {
			facts[place(e.Aggregate, e.Key, e.CauseSequence)] = e
		}
	}
	for _, e := range all {
		for _, k := range w.kinds {
			for _, key := range w.concerns(k, e) {
				at := place(k.name, key, e.Sequence)
				was, stands := facts[at]
				delete(facts, at)
				now, ok := k.decide(w.states[k.name+"/"+key], key, w.project, e)
				if ok != stands || ok && text(now.Content) != text(was.Content) {
					differences = append(differences, fmt.Sprintf("%s: recorded %v %s, decided %v %s", at, stands, text(was.Content), ok, text(now.Content)))
				}
				if stands {
					w.states[k.name+"/"+key] = k.evolve(w.states[k.name+"/"+key], was)
				}
			}
		}
	}
	for at := range facts {
		differences = append(differences, at+": recorded, and nothing asks for it")
	}
	return differences
}

// text is all of a content, with what travels in customData.
func text(content any) string {
	if content == nil {
		return ""
	}
	body, err := events.Event{Content: content}.AppendBody(nil)
	must(err)
	var parsed struct {
		Subject    json.RawMessage `json:"subject"`
		CustomData json.RawMessage `json:"customData"`
	}
	must(json.Unmarshal(body, &parsed))
	return string(parsed.Subject) + string(parsed.CustomData)
}
