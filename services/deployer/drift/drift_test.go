package drift

import (
	"fmt"
	"testing"
)

func TestCompare(t *testing.T) {
	v := func(id string) *Version { return &Version{id, "sha256:" + id} }
	runs := func(ids ...string) map[string]Process {
		all := map[string]Process{}
		for _, id := range ids {
			all[id] = Process{Digest: "sha256:" + id}
		}
		return all
	}
	for _, test := range []struct {
		name string
		want Want
		have Have
		is   string
	}{
		{"nothing", Want{}, Have{}, "[]"},
		{"as it has to be", Want{Stable: v("1")}, Have{Stable: "1", Processes: runs("1")}, "[]"},
		{"a canary", Want{Stable: v("1"), Candidate: v("2"), Weight: 0.1}, Have{Stable: "1", Canary: "2", Weight: 0.1, Processes: runs("1", "2")}, "[]"},
		{"one that is kept", Want{Stable: v("2"), Spare: v("1")}, Have{Stable: "2", Processes: runs("1", "2")}, "[]"},
		{"a fresh baseline", Want{Stable: v("1"), Candidate: v("2"), Baseline: v("3"), Weight: 0.1},
			Have{Stable: "1", Canary: "2", Baseline: "3", Weight: 0.1, Processes: runs("1", "2", "3")}, "[]"},
		{"no fresh baseline", Want{Stable: v("1"), Candidate: v("2"), Baseline: v("3"), Weight: 0.1},
			Have{Stable: "1", Canary: "2", Weight: 0.1, Processes: runs("1", "2", "3")},
			"[{routes 1 10 % of the users go to 2, as many to 3, the others to 1 10 % of the users go to 2, the others to 1}]"},
		{"gone", Want{Stable: v("1"), Candidate: v("2"), Spare: v("3")}, Have{Stable: "1", Processes: runs("1")},
			"[{gone 2 2 runs sha256:2 it does not run} {gone 3 3 runs sha256:3 it does not run}]"},
		{"one that is being started may be there or not", Want{Stable: v("1"), Coming: []string{"2"}}, Have{Stable: "1", Processes: runs("1")}, "[]"},
		{"one that is being started", Want{Stable: v("1"), Coming: []string{"2"}}, Have{Stable: "1", Processes: runs("1", "2")}, "[]"},
		{"another artifact", Want{Stable: v("1")}, Have{Stable: "1", Processes: map[string]Process{"1": {Digest: "sha256:9"}}},
			"[{artifact 1 1 runs sha256:1 it runs sha256:9}]"},
		{"it flaps", Want{Stable: v("1")}, Have{Stable: "1", Processes: map[string]Process{"1": {Digest: "sha256:1", Flapping: "exit status 1"}}},
			"[{flapping 1 1 runs sha256:1 exit status 1}]"},
		{"it takes too much", Want{Stable: v("1")}, Have{Stable: "1", Processes: map[string]Process{"1": {Digest: "sha256:1", Over: "memory", Flapping: "memory"}}},
			"[{limit 1 1 runs sha256:1 memory} {flapping 1 1 runs sha256:1 memory}]"},
		{"nobody knows it", Want{Stable: v("1")}, Have{Stable: "1", Processes: runs("1", "7")}, "[{unknown 7 nothing else runs 7 runs sha256:7}]"},
		{"it drains", Want{Stable: v("1")}, Have{Stable: "1", Processes: map[string]Process{"1": {Digest: "sha256:1"}, "0": {Ending: true}}}, "[]"},
		{"users are elsewhere", Want{Stable: v("2")}, Have{Stable: "1", Processes: runs("2")}, "[{routes 2 all users go to 2 all users go to 1}]"},
		{"too many users", Want{Stable: v("1"), Candidate: v("2"), Weight: 0.1}, Have{Stable: "1", Canary: "2", Weight: 0.5, Processes: runs("1", "2")},
			"[{routes 1 10 % of the users go to 2, the others to 1 50 % of the users go to 2, the others to 1}]"},
		{"no users", Want{Stable: v("1")}, Have{Processes: runs("1")}, "[{routes 1 all users go to 1 all users go to nobody}]"},
		{"a canary that is not to be", Want{Stable: v("1")}, Have{Stable: "1", Canary: "2", Weight: 0.1, Processes: runs("1")},
			"[{routes 1 all users go to 1 10 % of the users go to 2, the others to 1}]"},
	} {
		if got := fmt.Sprint(Compare(test.want, test.have)); got != test.is {
			t.Errorf("%s\n got %s\nwant %s", test.name, got, test.is)
		}
	}
}
