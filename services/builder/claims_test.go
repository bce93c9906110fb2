package builder_test

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/artifact"
)

var otherClaims = map[string]struct {
	given   []any // facts of earlier claims, all of them about the same subject
	claim   any
	key     string // "api" when empty
	outside bool   // an outside tool owns integrate
	refused string // a part of the reason; stated when empty
	fact    string
}{
	"repository":           {claim: events.RepositoryCreated{}, fact: "repository.created repository/api"},
	"unknown repository":   {key: "web", claim: events.RepositoryCreated{}, refused: "not one of the project's"},
	"repository twice":     {given: []any{events.RepositoryCreated{}}, claim: events.RepositoryCreated{}, refused: "already"},
	"repository modified":  {given: []any{events.RepositoryCreated{}}, claim: events.RepositoryModified{}, fact: "repository.modified repository/api"},
	"repository pushed to": {claim: events.RepositoryModified{}, fact: "repository.modified repository/api"},
	"another pushed to":    {key: "web", claim: events.RepositoryModified{}, refused: "not one of the project's"},
	"not there":            {claim: events.RepositoryDeleted{}, refused: "does not take part"},
	"back again": {given: []any{events.RepositoryCreated{}, events.RepositoryDeleted{}}, claim: events.RepositoryCreated{},
		fact: "repository.created repository/api"},
	"branch":                  {key: "find", claim: events.BranchCreated{Repository: &events.Reference{ID: "api"}}, fact: "branch.created branch/api/find"},
	"branch twice":            {key: "find", given: []any{events.BranchCreated{}}, claim: events.BranchCreated{}, refused: "exists already"},
	"branch of nothing":       {key: "find", claim: events.BranchCreated{Repository: &events.Reference{ID: "web"}}, refused: "not one of the project's"},
	"branch gone":             {key: "find", claim: events.BranchDeleted{}, fact: "branch.deleted branch/find"},
	"inner loop":              {key: "T-1", claim: events.LoopFinished{Outcome: events.Success, Seconds: 3}, fact: "loop.finished loop/T-1"},
	"inner loop of an item":   {key: "x", claim: events.LoopFinished{Item: "T-1", Outcome: events.Failure}, fact: "loop.finished loop/T-1"},
	"loop without outcome":    {key: "T-1", claim: events.LoopFinished{}, refused: "no outcome"},
	"loop out of time":        {key: "T-1", claim: events.LoopFinished{Outcome: events.Success, Seconds: math.Inf(1)}, refused: "no length of time"},
	"download of nothing":     {key: purl("a"), claim: events.ArtifactDownloaded{}, refused: "no artifact"},
	"download without digest": {key: "pkg:oci/api", claim: events.ArtifactDownloaded{}, refused: "package URL"},
	"packaged elsewhere":      {key: purl("a"), claim: events.ArtifactPackaged{}, refused: "packaged here"},
	"built elsewhere":         {claim: events.BuildFinished{}, refused: "builds run here"},
	"run elsewhere":           {claim: events.PipelineRunFinished{}, refused: "pipelines run here"},
	"outside: packaged":       {outside: true, key: purl("a"), claim: events.ArtifactPackaged{Change: events.Reference{ID: "7"}}, fact: "artifact.offered artifact/" + digestOf("a")},
	"outside: published":      {outside: true, key: purl("a"), claim: events.ArtifactPublished{}, fact: "artifact.offered artifact/" + digestOf("a")},
	"outside: without digest": {outside: true, key: "pkg:oci/api", claim: events.ArtifactPublished{}, refused: "package URL"},
	"outside: merged":         {outside: true, key: "7", claim: events.ChangeMerged{}, fact: "change.merged entry/7"},
	"outside: built":          {outside: true, key: "b", claim: events.BuildFinished{}, fact: "build.finished build/b"},
	"outside: run":            {outside: true, key: "r", claim: events.PipelineRunFinished{Outcome: events.Success}, fact: "pipelinerun.finished run/r"},
	"outside: published by another reference": {outside: true, key: purl("a"), refused: "is another artifact",
		claim: events.ArtifactPublished{Lemnis: events.ArtifactDetail{Reference: "127.0.0.1:1/shop/api@" + digestOf("b")}}},
	"outside: packaged with another id": {outside: true, key: purl("a"), refused: "is another artifact",
		claim: events.ArtifactPackaged{Lemnis: events.ArtifactDetail{ID: purl("b")}}},
	"outside: packaged with an id without digest": {outside: true, key: purl("a"), refused: "leave it out",
		claim: events.ArtifactPackaged{Lemnis: events.ArtifactDetail{ID: "pkg:generic/other@1"}}},
	"outside: published by its reference": {outside: true, key: purl("a"), fact: "artifact.offered artifact/" + digestOf("a"),
		claim: events.ArtifactPublished{Lemnis: events.ArtifactDetail{Reference: "127.0.0.1:1/shop/api@" + digestOf("a"), ID: purl("a")}}},
	"outside: signed, unknown": {outside: true, key: purl("a"), claim: events.ArtifactSigned{}, refused: "no artifact"},
}

func digestOf(word string) string { return artifact.Digest(purl(word)) }

func TestClaims(t *testing.T) {
	for name, c := range otherClaims {
		t.Run(name, func(t *testing.T) {
			p := shop(1)
			if c.outside {
				p.Owners = map[events.Phase]string{events.Integrate: "jenkins"}
			}
			w := newWorld(p)
			key := c.key
			if key == "" {
				key = "api"
			}
			for _, g := range c.given {
				w.claim(key, g)
				w.settle()
			}
			at := w.claim(key, c.claim).Sequence
			w.step()
			facts := w.since(at)
			if len(facts) != 1 {
				t.Fatalf("facts %v", facts)
			}
			answer := w.log[at]
			if c.refused != "" && !has(refusal(answer), c.refused) || c.refused == "" && facts[0] != c.fact {
				t.Fatalf("answered %v: %s", facts, refusal(answer))
			}
			if w.settle(); c.outside && len(w.since(at)) != 1 {
				t.Fatalf("what an outside tool says led to %v", w.since(at))
			}
		})
	}
}

// lap is one change on its way, and the artifact's after it, as the builder sees them.
func lap(w *world) {
	w.claim("api", events.RepositoryCreated{Repository: events.Repository{Name: "api", URI: "https://git.example.org/shop/api.git"}})
	w.settle()
	build := func(key string, attempt uint64) {
		queued, _ := last[events.BuildQueued](w)
		d := queued.Lemnis
		w.result(key, attempt, events.BuildStarted{Lemnis: d})
		if d.Merge.Commit == "" {
			d.Merge.Commit = commit("found")
		}
		d.Outcome, d.Digest, d.Artifact, d.Size, d.Seconds = events.Success, digestOf("exe of "+key), "127.0.0.1:1/shop/api@"+digestOf(key), 7, 1.5
		w.result(key, attempt, events.BuildFinished{ArtifactID: purl(key), Lemnis: d})
		w.settle()
	}
	build("api@initial", 1)
	w.claim("7", proposed(commit("h1")))
	w.claim("7", approved("ann", ""))
	w.claim("7", approved("bo", commit("h1")))
	w.settle()
	test := func(key string, attempt uint64, onto string, outcome string) {
		queued, _ := last[events.PipelineRunQueued](w)
		d := queued.Lemnis
		w.result(key, attempt, events.PipelineRunStarted{PipelineName: "merge", Lemnis: d})
		d.Merge.Onto, d.Merge.Commit = commit(onto), commit("merge on "+onto)
		d.Merge.Evidence = &events.Evidence{Run: key, Tests: 12, Coverage: 81.5}
		w.result(key, attempt, events.PipelineRunFinished{PipelineName: "merge", Outcome: outcome, Lemnis: d})
		w.settle()
	}
	// The first worker dies; the second finds main moved when it comes to merge.
	w.result("7#1", 1, events.PipelineRunStarted{PipelineName: "merge"})
	test("7#1", 2, "m1", events.Success)
	first, _ := last[events.QueueTested](w)
	w.result("7", 1, events.QueueEntered{Merge: first.Merge, Reason: "main has moved"})
	w.settle()
	test("7#2", 1, "m2", events.Success)
	second, _ := last[events.QueueTested](w)
	w.result("7", 1, events.ChangeMerged{Repository: &events.Reference{ID: "api"}, Lemnis: second.Merge})
	w.settle()
	build("7#2", 1)
	w.claim(purl("7#2"), events.ArtifactDownloaded{User: "deployer"})
	w.claim("8", proposed(commit("h8")))
	w.claim("8", approved("bo", ""))
	w.settle()
	test("8#1", 1, "m3", events.Failure)
	w.claim("8", events.ChangeAbandoned{})
	w.settle()
}

func TestLap(t *testing.T) {
	w := newWorld(shop(1))
	lap(w)
	got := w.since(0)
	want := []string{
		"repository.created repository/api", "build.queued build/api@initial", "build.started build/api@initial", "build.finished build/api@initial",
		"artifact.packaged artifact/D1", "artifact.published artifact/D1",
		"change.created change/7", "claim.refused change/7", "change.reviewed change/7", "change.verified change/7",
		"queue.entered entry/7", "pipelinerun.queued run/7#1", "pipelinerun.started run/7#1", "pipelinerun.started run/7#1", "pipelinerun.finished run/7#1",
		"queue.tested entry/7", "queue.entered entry/7", "pipelinerun.queued run/7#2", "pipelinerun.started run/7#2", "pipelinerun.finished run/7#2",
		"queue.tested entry/7", "change.merged entry/7", "build.queued build/7#2", "build.started build/7#2", "build.finished build/7#2",
		"artifact.packaged artifact/D2", "artifact.published artifact/D2",
		"artifact.downloaded artifact/D2", "change.created change/8", "change.reviewed change/8", "change.verified change/8",
		"queue.entered entry/8", "pipelinerun.queued run/8#1", "pipelinerun.started run/8#1", "pipelinerun.finished run/8#1", "queue.ejected entry/8",
		"change.abandoned change/8",
	}
	for i, name := range want {
		want[i] = strings.NewReplacer("D1", digestOf("api@initial"), "D2", digestOf("7#2")).Replace(name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got\n%v\nwant\n%v", got, want)
	}
	published, _ := last[events.ArtifactPublished](w)
	d := published.Lemnis
	if d.ID != purl("7#2") || d.Service != "api" || d.Change != "7" || d.Item != "T-1" || d.Author != "ann" || d.Title != "Find things" ||
		d.Commit != commit("merge on m2") || d.Evidence == nil || d.Evidence.Tests != 12 || d.Size != 7 || d.Reference == "" || d.Digest == "" {
		t.Fatalf("artifact %+v", d)
	}
}

// A repository that left and is back is built again; the artifact is there already, unless it was
// deleted.
func TestSameArtifactTwice(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		w := newWorld(shop(1))
		for range 2 {
			w.claim("api", events.RepositoryCreated{})
			w.settle()
			queued, _ := last[events.BuildQueued](w)
			d := queued.Lemnis
			d.Outcome, d.Merge.Commit = events.Success, commit("found")
			w.result("api@initial", 1, events.BuildFinished{ArtifactID: purl("a"), Lemnis: d})
			w.settle()
			w.claim("api", events.RepositoryDeleted{})
			if deleted {
				w.claim(purl("a"), events.ArtifactDeleted{})
			}
			w.settle()
		}
		want := 1
		if deleted {
			want = 2
		}
		if builds, packaged, published := count[events.BuildFinished](w), count[events.ArtifactPackaged](w), count[events.ArtifactPublished](w); builds != 2 || packaged != want || published != want {
			t.Errorf("deleted %v: %d builds, %d packaged, %d published", deleted, builds, packaged, published)
		}
	}
}

// Whatever comes, in whatever order and from whomever: nothing panics, states survive being
// saved and are not changed in place (the world checks both), and every claim that anybody
// routes gets exactly one answer.
func TestAnyOrder(t *testing.T) {
	var contents []any
	for _, row := range events.Catalogue() {
		if row.Phase == events.Develop || row.Phase == events.Integrate {
			contents = append(contents, row.Zero())
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := shop(rapid.IntRange(0, 2).Draw(t, "approvals"))
		p.Owners = map[events.Phase]string{
			events.Develop:   rapid.SampledFrom([]string{"builtin", "github"}).Draw(t, "develop"),
			events.Integrate: rapid.SampledFrom([]string{"builtin", "jenkins"}).Draw(t, "integrate"),
		}
		w := newWorld(p)
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			content := reflect.New(reflect.TypeOf(rapid.SampledFrom(contents).Draw(t, "type"))).Elem()
			fill(t, content, 0)
			w.append(events.Event{
				Kind: rapid.SampledFrom([]events.Kind{events.Claim, events.Result, events.Stated}).Draw(t, "kind"),
				Key:  word(t), SubjectID: word(t), Principal: "local", Attempt: rapid.Uint64Range(0, 3).Draw(t, "attempt"), Content: content.Interface(),
			})
			w.settle()
		}
		answers := map[uint64]int{}
		for _, e := range w.log {
			answers[e.CauseSequence]++
		}
		for _, e := range w.log {
			routed := 0
			for _, k := range w.kinds {
				if k.phase == e.Phase {
					routed += len(k.route(p, e))
				}
			}
			if e.Kind == events.Claim && routed > 0 && answers[e.Sequence] != 1 {
				t.Fatalf("claim %s (%+v) has %d answers", e.Type.Short(), e.Content, answers[e.Sequence])
			}
		}
	})
}

func word(t *rapid.T) string {
	return rapid.SampledFrom([]string{"7", "8", "api", "web", "7#1", "main", "find", "ann", "bo", events.Success, events.Failure,
		events.Approved, events.ChangesRequested, commit("h1"), commit("h2"), purl("a"), "\n", "é"}).Draw(t, "word")
}

// fill gives every field some value that another event may have too.
func fill(t *rapid.T, v reflect.Value, depth int) {
	if rapid.IntRange(0, 5).Draw(t, "leave") == 0 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(word(t))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64Range(-1, 3).Draw(t, "int"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64Range(-1, 100).Draw(t, "float"))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		if depth < 4 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.ValueOf([]string{word(t)}).Convert(v.Type()))
		}
	}
}
