package command_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTests(t *testing.T) {
	const answer = `{"from":"2026-03-01T00:00:00Z","runs":9,"tests":[
		{"repository":"api","name":"web.TestOnce","runs":9,"failures":1,"flaky":2,"seconds":0.25,"outcome":"pass","results":[{"run":"api@3","commit":"0123456789abcdef","at":"2026-03-02T00:00:00Z","outcome":"flaky"}]},
		{"repository":"api","name":"web.TestRed","runs":9,"failures":3,"flaky":0,"seconds":1,"outcome":"fail"},
		{"repository":"api","name":"web.TestFine","runs":9,"failures":0,"flaky":0,"seconds":0,"outcome":"pass"}]}`
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	for _, test := range []struct {
		args  []string
		code  int
		url   string
		shows []string // parts, joined by one space where there is space
		not   string
	}{
		{nil, 0, "/api/v1/tests/shop", []string{"9 1 2 0.25 pass api web.TestOnce", "9 3 0 1 fail api web.TestRed", "web.TestFine"}, ""},
		{[]string{"Once", "--repository", "api", "--flaky"}, 0, "/api/v1/tests/shop?name=Once&repository=api", []string{"web.TestOnce", "0 flaky api@3 0123456789ab,"}, "TestRed"},
		{[]string{"--failing"}, 0, "/api/v1/tests/shop", []string{"web.TestRed"}, "TestOnce"},
		{[]string{"--output", "json"}, 0, "/api/v1/tests/shop", []string{`"runs": 9`}, ""},
		{[]string{"--failing", "--flaky"}, 0, "/api/v1/tests/shop", []string{"no such test case in 9 runs since"}, "TEST\n"},
		{[]string{"--since", "-2h"}, 2, "", []string{"not negative"}, ""},
		{[]string{"a", "b"}, 2, "", nil, ""},
	} {
		asked = ""
		code, out, complaint := lemnis(t.Context(), append([]string{"tests", "--server", server.URL, "--project", "shop"}, test.args...)...)
		said := strings.Join(strings.Fields(out+complaint), " ")
		if code != test.code || asked != test.url || test.not != "" && strings.Contains(out, test.not) {
			t.Errorf("%q: %d, asked for %q, said %q", test.args, code, asked, said)
		}
		for _, part := range test.shows {
			if !strings.Contains(said, part) {
				t.Errorf("%q says %q, without %q", test.args, said, part)
			}
		}
	}
}
