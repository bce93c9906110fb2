package rulestest

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

var record = flag.Bool("record", false, "record the histories that are not there yet")

// Play puts on a stream what happens in one history, and has it decided on.
type Play func(t T, s *Stream)

// Histories replays what streams of the project p once held, one structured CloudEvent a line, as GET /events shows them, in
// testdata/histories. Today's rules have to make the same facts of the same causes. A difference is a change of meaning:
// raise the fold's Version where it folds otherwise, say so in the changelog, name each difference in a file NAME.differences
// beside the history (KIND/KEY for cause N: DIGEST why; a line each, the digest is of what is decided today), and record a new one (go test -record): a recorded file is never
// changed. It also shows that a replay can fail: each fact in turn is left out, made up, and given to a wrong cause.
func Histories(t *testing.T, p events.Project, define func() []service.Definition, plays map[string]Play) {
	t.Helper()
	folder := filepath.Join("testdata", "histories")
	for name, play := range plays {
		file := filepath.Join(folder, name+".jsonl")
		if _, err := os.Stat(file); err == nil || !*record {
			continue
		}
		s := New(p, define()...)
		play(t, s)
		if err := write(file, s.Events); err != nil {
			t.Fatal(err)
		}
	}
	named, err := filepath.Glob(filepath.Join(folder, "*.differences"))
	for _, file := range named {
		if _, missing := os.Stat(strings.TrimSuffix(file, ".differences") + ".jsonl"); missing != nil {
			t.Errorf("%s: of no history: %v", file, missing)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil || len(files) < len(plays) {
		t.Fatalf("%d histories of %d are recorded (%v)", len(files), len(plays), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jsonl"), func(t *testing.T) {
			all := read(t, file)
			named := strings.TrimSuffix(file, ".jsonl") + ".differences"
			for _, difference := range unnamed(t, named, replay(t, p, define(), all)) {
				t.Error(difference)
			}
			for what, spoilt := range spoil(all) {
				if len(unnamed(t, named, replay(t, p, define(), spoilt))) == 0 {
					t.Errorf("%s is not noticed", what)
				}
			}
		})
	}
}

// difference is a decision that is not the recorded one.
type difference struct{ where, recorded, decided string }

func (d difference) String() string {
	return fmt.Sprintf("%s: %s was recorded %s, decided %s", d.where, d.digest(), d.recorded, d.decided)
}

func (d difference) digest() string { return fmt.Sprintf("%.4x", sha256.Sum256([]byte(d.decided))) }

// unnamed is what differs and is not named in the file, and what is named there and does not differ so. Without the file nothing may
// differ.
func unnamed(t *testing.T, file string, differences []difference) (out []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		where, rest, _ := strings.Cut(line, ": ")
		digest, _, _ := strings.Cut(rest, " ")
		named[where+": "+digest] = true
	}
	for _, d := range differences {
		name := d.where + ": " + d.digest()
		if !named[name] {
			out = append(out, d.String())
		}
		delete(named, name)
	}
	for name := range named {
		out = append(out, name+": said to differ so, and does not")
	}
	return out
}

// spoil makes histories that no rules would have made: of the first fact of each type.
func spoil(all []events.Event) map[string][]events.Event {
	out, seen := map[string][]events.Event{}, map[events.Type]bool{}
	for i, e := range all {
		if e.Kind != events.Stated || e.Aggregate == "" || seen[e.Type] {
			continue
		}
		seen[e.Type] = true
		madeUp, astray := e, slices.Clone(all)
		madeUp.Key = "somebody"
		astray[i].CauseSequence = uint64(len(all)) + 1
		out["that "+e.Type.Short()+" is missing"] = slices.Delete(slices.Clone(all), i, i+1)
		out["that "+e.Type.Short()+" is made up"] = append(slices.Clone(all), madeUp)
		out["that "+e.Type.Short()+" has another cause"] = astray
	}
	return out
}

func write(file string, all []events.Event) error {
	var out bytes.Buffer
	for _, e := range all {
		line, err := events.EncodeStructured(e)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o600)
}

func read(t *testing.T, file string) (all []events.Event) {
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

// replay decides over the causes in order, folds the recorded facts, and says where a decision is not what was recorded.
func replay(t *testing.T, p events.Project, definitions []service.Definition, all []events.Event) (differences []difference) {
	t.Helper()
	s := New(p, definitions...)
	type decided struct {
		place
		cause uint64
	}
	where := func(at decided) string { return fmt.Sprintf("%s/%s for cause %d", at.kind, at.key, at.cause) }
	text := func(stands bool, content any) string {
		if !stands {
			return "nothing"
		}
		return Text(content)
	}
	recorded := map[decided]events.Event{}
	for _, e := range all {
		if e.Kind == events.Stated && e.Aggregate != "" && s.runs(e.Phase) {
			recorded[decided{place{e.Phase, e.Aggregate, e.Key}, e.CauseSequence}] = e
		}
	}
	for _, cause := range all {
		s.each(cause, func(d service.Definition, a service.Aggregate, key string) {
			at := decided{place{d.Phase, a.Kind(), key}, cause.Sequence}
			was, stands := recorded[at]
			delete(recorded, at)
			now, ok := s.decide(t, d, a, key, cause)
			if ok != stands || ok && Text(was.Content) != Text(now.Content) {
				differences = append(differences, difference{where(at), text(stands, was.Content), text(ok, now.Content)})
			}
			if stands {
				s.evolve(t, d, a, was)
			}
		})
	}
	for at := range recorded {
		differences = append(differences, difference{where(at), "a fact", "nothing, as nothing asks for it"})
	}
	return differences
}
