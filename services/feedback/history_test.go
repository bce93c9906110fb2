package feedback

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// A history is what a stream once held, one structured CloudEvent a line, as GET /events shows them. Today's code has
// to make the same facts of the same causes. A difference is a change of meaning: raise the fold's Version and say so
// in the changelog, and record a new history beside the old one; a recorded file is never changed.
var record = flag.Bool("record", false, "record the histories that are not there yet")

var histories = map[string]func(t failer, s *stream){"lap": lap}

func TestHistories(t *testing.T) {
	folder := filepath.Join("testdata", "histories")
	for name, play := range histories {
		file := filepath.Join(folder, name+".jsonl")
		if _, err := os.Stat(file); err == nil || !*record {
			continue
		}
		s := newStream(events.DefaultProject("shop"))
		play(t, s)
		var out bytes.Buffer
		for _, e := range s.events {
			line, err := events.EncodeStructured(e)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(append(line, '\n'))
		}
		if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil || len(files) < len(histories) {
		t.Fatalf("%d histories of %d are recorded (%v)", len(files), len(histories), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jsonl"), func(t *testing.T) {
			for _, difference := range replay(t, readHistory(t, file)) {
				t.Error(difference)
			}
		})
	}
}

// TestReplayNotices shows that replaying can fail: a fact that is missing, changed, or made up is found.
func TestReplayNotices(t *testing.T) {
	file := filepath.Join("testdata", "histories", "lap.jsonl")
	for name, spoil := range map[string]func([]events.Event, int) []events.Event{
		"missing": func(all []events.Event, i int) []events.Event { return append(all[:i:i], all[i+1:]...) },
		"changed": func(all []events.Event, i int) []events.Event {
			c := all[i].Content.(events.InsightFound)
			c.Users = append(c.Users, "somebody")
			all[i].Content = c
			return all
		},
		"made up": func(all []events.Event, i int) []events.Event {
			e := all[i]
			e.Key, e.CauseSequence = "somebody", 1
			return append(all, e)
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := readHistory(t, file)
			for i, e := range all {
				if _, ok := e.Content.(events.InsightFound); ok && e.Kind == events.Stated {
					all = spoil(all, i)
					break
				}
			}
			if len(replay(t, all)) == 0 {
				t.Error("not noticed")
			}
		})
	}
}

func readHistory(t *testing.T, file string) []events.Event {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []events.Event
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 2<<20)
	for lines.Scan() {
		e, _, err := events.DecodeStructured(lines.Bytes())
		if err != nil {
			t.Fatalf("%s:%d: %v", file, len(all)+1, err)
		}
		e.Stored = e.Time
		all = append(all, e)
	}
	return all
}

// replay decides over the causes in order and says where an aggregate's decision is not what was recorded.
func replay(t *testing.T, all []events.Event) (differences []string) {
	t.Helper()
	s := newStream(events.DefaultProject("shop"))
	recorded := map[string]events.Event{}
	at := func(kind, key string, cause uint64) string {
		return fmt.Sprintf("%s/%s for cause %d", kind, key, cause)
	}
	for _, e := range all {
		if e.Kind == events.Stated && e.Phase == s.phase && e.Aggregate != "" {
			recorded[at(e.Aggregate, e.Key, e.CauseSequence)] = e
		}
	}
	for _, cause := range all {
		for _, a := range s.kinds {
			for _, key := range s.concerns(a, cause) {
				place := at(a.kind, key, cause.Sequence)
				was, stands := recorded[place]
				delete(recorded, place)
				now, ok := a.decide(key, s.project, cause)
				switch {
				case ok != stands:
					differences = append(differences, fmt.Sprintf("%s: recorded %v, decided %v", place, stands, ok))
				case ok && encode(was.Content) != encode(now.Content):
					differences = append(differences, fmt.Sprintf("%s: recorded %s, decided %s", place, encode(was.Content), encode(now.Content)))
				}
				if !stands {
					continue
				}
				a.evolve(t, key, was)
			}
		}
	}
	for place := range recorded {
		differences = append(differences, place+": recorded, and nothing asks for it")
	}
	return differences
}
