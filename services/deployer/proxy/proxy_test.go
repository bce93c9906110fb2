package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve runs an upstream that names itself in each answer.
func serve(t *testing.T, version string, handler http.HandlerFunc) Upstream {
	t.Helper()
	if handler == nil {
		handler = func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, version) }
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return Upstream{version, server.URL}
}

func front(t *testing.T, config Config, routes Routes) *Front {
	t.Helper()
	config.Service = "api"
	f, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = f.Close(ctx)
	})
	if routes.Stable.Version != "" {
		if err := f.SetRoutes(routes); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func get(t *testing.T, f *Front, path, user string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, f.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		r.Header.Set(UserHeader, user)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

// eventually polls a state that only the snapshot shows.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestUsersStickWhileTheWeightRises(t *testing.T) {
	stable, canary := serve(t, "v1", nil), serve(t, "v2", nil)
	f := front(t, Config{}, Routes{Stable: stable})
	const users = 400
	on := map[string]bool{}
	for _, weight := range []float64{0, 0.05, 0.25, 0.5, 1} {
		if err := f.SetRoutes(Routes{Stable: stable, Canary: &canary, Weight: weight}); err != nil {
			t.Fatal(err)
		}
		count := 0
		for i := range users {
			user := fmt.Sprint("user-", i)
			_, body := get(t, f, "/", user)
			if on[user] && body != "v2" {
				t.Fatalf("%s left the canary at weight %g", user, weight)
			}
			if body == "v2" {
				on[user] = true
				count++
			}
		}
		if share := float64(count) / users; share < weight-0.08 || share > weight+0.08 {
			t.Errorf("weight %g gave the canary %.3f of the users", weight, share)
		}
	}
}

// The baseline has as many users as the canary, and nobody goes from the canary back as the weight rises.
func TestABaselineHasAsManyUsersAsTheCanary(t *testing.T) {
	stable, canary, baseline := serve(t, "stable", nil), serve(t, "canary", nil), serve(t, "baseline", nil)
	f := front(t, Config{}, Routes{Stable: stable})
	const users = 400
	on := map[string]bool{}
	for _, weight := range []float64{0.1, 0.3, 0.5} {
		if err := f.SetRoutes(Routes{Stable: stable, Canary: &canary, Baseline: &baseline, Weight: weight}); err != nil {
			t.Fatal(err)
		}
		served := map[string]int{}
		for i := range users {
			user := fmt.Sprint("user-", i)
			_, by := get(t, f, "/", user)
			served[by]++
			if on[user] && by != "canary" {
				t.Errorf("%s was on the canary, and is on %s at %v", user, by, weight)
			}
			on[user] = on[user] || by == "canary"
		}
		for _, version := range []string{"canary", "baseline"} {
			if share := float64(served[version]) / users; share < weight-0.08 || share > weight+0.08 {
				t.Errorf("at %v: %v", weight, served)
			}
		}
	}
	for _, routes := range []Routes{
		{Stable: stable, Baseline: &baseline}, {Stable: stable, Canary: &canary, Baseline: &baseline, Weight: 0.6},
		{Stable: stable, Canary: &canary, Baseline: &stable, Weight: 0.1}, {Stable: stable, Canary: &canary, Baseline: &canary, Weight: 0.1},
	} {
		if f.SetRoutes(routes) == nil {
			t.Errorf("%+v is taken", routes)
		}
	}
}

func TestPlaceIsEvenAndStable(t *testing.T) {
	below := 0
	for i := range 100000 {
		if place("api", "v2", fmt.Sprint(i)) < 0.01 {
			below++
		}
	}
	if below < 900 || below > 1100 {
		t.Errorf("%d of 100,000 users below 1 %%", below)
	}
	// Users must find their version again after an update of the proxy.
	if got := place("api", "v2", "ann"); fmt.Sprintf("%.6f", got) != "0.364616" {
		t.Errorf("ann moved to %.6f", got)
	}
}

func TestCookieKeepsTheVersion(t *testing.T) {
	stable, canary := serve(t, "v1", nil), serve(t, "v2", nil)
	f := front(t, Config{}, Routes{Stable: stable, Canary: &canary, Weight: 0.5})
	seen := map[string]bool{}
	for range 40 {
		jar, _ := cookiejar.New(nil)
		client := &http.Client{Jar: jar}
		first := ""
		for range 3 {
			r, _ := http.NewRequest(http.MethodGet, f.URL(), nil)
			r.Header.Set("Accept", "text/html")
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if first == "" {
				first = string(body)
			} else if first != string(body) {
				t.Fatal("a browser changed its version")
			}
		}
		seen[first] = true
	}
	if len(seen) != 2 {
		t.Errorf("40 browsers at one address all got %v", seen)
	}
	_, first := get(t, f, "/", "")
	for range 10 {
		if _, body := get(t, f, "/", ""); body != first {
			t.Fatal("a client without a cookie changed its version")
		}
	}
}

func TestCountsByVersionAndFeature(t *testing.T) {
	stable := serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cart/500":
			w.WriteHeader(500)
		case "/cart/404":
			w.WriteHeader(404)
		case "/cart/broken":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	f := front(t, Config{Features: map[string]string{"cart": "/cart", "pay": "/cart/pay/"}}, Routes{Stable: stable})
	for _, path := range []string{"/", "/cart", "/cartoon", "/cart/pay/now", "/cart/500", "/cart/404"} {
		get(t, f, path, "ann")
	}
	// On a fresh connection: on a used one the client would repeat a GET that ended before its first byte.
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := fresh.Get(f.URL() + "/cart/broken")
	if err == nil {
		if _, err = io.ReadAll(response.Body); err == nil {
			t.Error("the client did not see that the body broke off")
		}
		response.Body.Close()
	}
	c := f.Snapshot().Versions["v1"]
	for name, want := range map[string][2]int64{"cart": {4, 2}, "pay": {1, 0}, OtherFeature: {2, 0}} {
		if got := c.Features[name]; got.Requests != want[0] || got.Errors != want[1] {
			t.Errorf("%s: %d requests, %d errors, expected %v", name, got.Requests, got.Errors, want)
		}
	}
	sum := int64(0)
	for _, n := range c.Buckets {
		sum += n
	}
	if c.Requests != 7 || c.Errors != 2 || sum != 7 {
		t.Errorf("total %+v", c.Counts)
	}
}

// A feature that comes while the front serves counts from then on; those that stay go on, and one that went comes back with what it had.
func TestFeaturesThatComeLater(t *testing.T) {
	release := make(chan struct{})
	stable := serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cart/slow" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-release
			panic(http.ErrAbortHandler)
		}
	})
	f := front(t, Config{Features: map[string]string{"cart": "/cart", "old": "/old"}}, Routes{Stable: stable})
	for _, path := range []string{"/cart", "/old", "/search"} {
		get(t, f, path, "ann")
	}
	slow, err := http.Get(f.URL() + "/cart/slow") // begun by the features before, and fails by those after
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetFeatures(map[string]string{"cart": "cart"}); err == nil {
		t.Error("a prefix without / counts")
	}
	// It sorts before cart, and by the length of its prefix too.
	if err := f.SetFeatures(map[string]string{"a search": "/search/all", "cart": "/cart"}); err != nil {
		t.Fatal(err)
	}
	close(release)
	if _, err := io.Copy(io.Discard, slow.Body); err == nil {
		t.Error("the answer did not break off")
	}
	_ = slow.Body.Close()
	for _, path := range []string{"/cart", "/search/all", "/search/all", "/old"} {
		get(t, f, path, "ann")
	}
	counted := func(want map[string][2]int64) {
		t.Helper()
		got := f.Snapshot().Versions["v1"].Features
		for name, n := range want {
			if c, ok := got[name]; !ok || c.Requests != n[0] || c.Errors != n[1] || len(c.Buckets) != len(Bounds)+1 {
				t.Errorf("%s: %d requests, %d errors, want %v", name, c.Requests, c.Errors, n)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d features, want %d", len(got), len(want))
		}
	}
	counted(map[string][2]int64{"cart": {3, 1}, "a search": {2, 0}, OtherFeature: {2, 0}})
	if err := f.SetFeatures(map[string]string{"old": "/old"}); err != nil {
		t.Fatal(err)
	}
	counted(map[string][2]int64{"old": {1, 0}, OtherFeature: {2, 0}})
}

func TestTransportFailureIsAnErrorOfTheVersion(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := Upstream{"v1", "http://" + l.Addr().String()}
	l.Close()
	f := front(t, Config{}, Routes{Stable: gone})
	if status, _ := get(t, f, "/", ""); status != http.StatusBadGateway {
		t.Errorf("status %d", status)
	}
	slow := serve(t, "v2", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	g := front(t, Config{ResponseTimeout: 20 * time.Millisecond}, Routes{Stable: slow})
	if status, _ := get(t, g, "/", ""); status != http.StatusGatewayTimeout {
		t.Errorf("status %d", status)
	}
	if a, b := f.Snapshot().Versions["v1"], g.Snapshot().Versions["v2"]; a.Errors != 1 || b.Errors != 1 {
		t.Errorf("counted %+v and %+v", a.Counts, b.Counts)
	}
}

func TestAClientThatLeavesIsAnErrorOnlyAfterItsPatience(t *testing.T) {
	for _, test := range []struct {
		patience time.Duration
		errors   int64
	}{{time.Hour, 0}, {time.Nanosecond, 1}} {
		reached := make(chan struct{})
		f := front(t, Config{Patience: test.patience}, Routes{Stable: serve(t, "v1", func(_ http.ResponseWriter, r *http.Request) {
			close(reached)
			<-r.Context().Done()
		})})
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-reached; cancel() }()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, f.URL(), nil)
		if _, err := http.DefaultClient.Do(r); err == nil {
			t.Fatal("the request was answered")
		}
		eventually(t, "the count", func() bool { return f.Snapshot().Versions["v1"].Requests == 1 })
		if got := f.Snapshot().Versions["v1"].Errors; got != test.errors {
			t.Errorf("patience %s: %d errors", test.patience, got)
		}
	}
}

func TestABrokenUploadIsNotTheVersionsError(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	})})
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100\r\n\r\nhalf",
		"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n",
	} {
		before := f.Snapshot().Versions["v1"].Requests
		conn, err := net.Dial("tcp", f.Addr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, request)
		_ = conn.(*net.TCPConn).CloseWrite()
		eventually(t, "the count", func() bool { return f.Snapshot().Versions["v1"].Requests == before+1 })
		conn.Close()
		if got := f.Snapshot().Versions["v1"]; got.Errors != 0 {
			t.Errorf("%q: %+v", request, got.Counts)
		}
	}
}

func TestFaultIsVisible(t *testing.T) {
	var mu sync.Mutex
	var logged []string
	stable, canary := serve(t, "v1", nil), serve(t, "v2", nil)
	f := front(t, Config{Log: func(message string, pairs ...any) {
		mu.Lock()
		defer mu.Unlock()
		logged = append(logged, fmt.Sprint(message, pairs))
	}}, Routes{Stable: stable, Canary: &canary, Weight: 0.5})
	if err := f.SetFault(Fault{"v2", 1}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		status, body := get(t, f, "/", fmt.Sprint(i))
		if (status == 503) == (body == "v1") {
			t.Fatalf("%d %q", status, body)
		}
	}
	s := f.Snapshot()
	if v2 := s.Versions["v2"]; v2.Requests == 0 || v2.Injected != v2.Requests || v2.Errors != v2.Requests {
		t.Errorf("%+v", v2.Counts)
	}
	if s.Versions["v1"].Errors != 0 || len(s.Faults) != 1 {
		t.Errorf("%+v", s)
	}
	if err := f.SetFault(Fault{"v2", 0}); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, f, "/", "0"); status != 200 || len(f.Snapshot().Faults) != 0 {
		t.Error("the fault did not end")
	}
	mu.Lock()
	defer mu.Unlock()
	if text := strings.Join(logged, "\n"); !strings.Contains(text, "fault set") || !strings.Contains(text, "routes changed") {
		t.Errorf("logged %s", text)
	}
}

func TestWhatIsRefused(t *testing.T) {
	if _, err := New(Config{Address: "0.0.0.0:0"}); err == nil {
		t.Error("listened beyond loopback")
	}
	if _, err := New(Config{Features: map[string]string{"cart": "cart"}}); err == nil {
		t.Error("took a prefix without a slash")
	}
	f := front(t, Config{}, Routes{})
	if status, _ := get(t, f, "/", ""); status != http.StatusServiceUnavailable {
		t.Errorf("without a version: %d", status)
	}
	good := Upstream{"v1", "http://127.0.0.1:1"}
	for _, routes := range []Routes{
		{}, {Stable: Upstream{"v1", "127.0.0.1:1"}}, {Stable: Upstream{"", good.URL}},
		{Stable: Upstream{"v1", "http://127.0.0.1:1/path"}}, {Stable: Upstream{"v1", "http://127.0.0.1"}},
		{Stable: good, Weight: 1.5}, {Stable: good, Weight: -0.1}, {Stable: good, Canary: &good},
	} {
		if err := f.SetRoutes(routes); err == nil {
			t.Errorf("took %+v", routes)
		}
	}
	if err := f.SetFault(Fault{"v1", 2}); err == nil {
		t.Error("took a rate of 2")
	}
}
