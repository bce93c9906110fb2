package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// malformedSeed makes the inputs: input n is the same in every run. Another one is given in LEMNIS_SEED.
const malformedSeed = 20261125

const malformedEach = 5000 // over HTTP, and over NATS

// malformed is an event that something was done to.
type malformed struct {
	headers [][2]string
	body    []byte
}

// mangler derives inputs from the events that the fuzz tests begin with.
type mangler struct {
	seed    uint64
	goldens [][]byte
	of      []events.Event
}

func newMangler(t *testing.T) *mangler {
	t.Helper()
	m := &mangler{seed: malformedSeed}
	if text := os.Getenv("LEMNIS_SEED"); text != "" {
		var err error
		if m.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("../../pkg/events/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden events", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e, err := events.DecodeBody(body)
		if err != nil {
			t.Fatal(err)
		}
		m.goldens, m.of = append(m.goldens, body), append(m.of, e)
	}
	t.Logf("seed %d", m.seed)
	return m
}

// input is the n-th. Each has an id of its own, unless that is what is mangled.
func (m *mangler) input(n int, batches bool) malformed {
	r := rand.New(rand.NewPCG(m.seed, uint64(n)))
	at := r.IntN(len(m.goldens))
	e := m.of[at]
	id := fmt.Sprintf("m%d", n)
	body := bytes.ReplaceAll(m.goldens[at], []byte(`"`+e.ID+`"`), []byte(`"`+id+`"`))
	mode := r.IntN(3)
	if mode == 2 && !batches {
		mode = r.IntN(2)
	}
	var in malformed
	switch mode {
	case 0:
		in.headers = [][2]string{
			{"ce-specversion", "1.0"}, {"ce-type", string(e.Type)}, {"ce-id", id}, {"ce-source", e.Source}, {"ce-project", "shop"}, {"Content-Type", "application/json"},
		}
		in.body = mangle(r, body)
	default:
		envelope, _ := json.Marshal(map[string]any{
			"specversion": "1.0", "id": id, "source": e.Source, "type": e.Type, "project": "shop", "datacontenttype": "application/json", "data": json.RawMessage(body),
		})
		in.headers = [][2]string{{"Content-Type", "application/cloudevents+json"}}
		in.body = mangle(r, envelope)
		if mode == 2 {
			in.headers[0][1] = "application/cloudevents-batch+json"
			in.body = bytes.Join([][]byte{[]byte("["), in.body, []byte(","), bytes.Replace(envelope, []byte(`"`+id+`"`), []byte(`"`+id+`b"`), 1), []byte("]")}, nil)
		}
	}
	if r.IntN(4) == 0 {
		in.headers = mangleHeaders(r, in.headers)
	}
	return in
}

// mangle does one to three things to a JSON text.
func mangle(r *rand.Rand, text []byte) []byte {
	for range 1 + r.IntN(3) {
		at := r.IntN(len(text) + 1)
		switch r.IntN(10) {
		case 0: // flipped bits
			text = bytes.Clone(text)
			for range 1 + r.IntN(8) {
				if len(text) > 0 {
					text[r.IntN(len(text))] ^= 1 << r.IntN(8)
				}
			}
		case 1: // cut off
			text = text[:at]
		case 2: // no UTF-8, and control characters
			text = insert(text, at, []string{"\xff\xfe", "\xc3", "\xed\xa0\x80", "\x00", "\x1b", "\\ud800"}[r.IntN(6)])
		case 3: // a member twice
			name := []string{"id", "type", "source", "project", "data", "context", "subject", "content", "specversion"}[r.IntN(9)]
			if open := bytes.IndexByte(text[at:], '{'); open >= 0 {
				text = insert(text, at+open+1, `"`+name+`":"x",`)
			}
		case 4: // a piece twice
			end := min(len(text), at+r.IntN(200))
			text = insert(text, at, string(text[at:end]))
		default: // values of another kind, swapped, or gone
			text = mangleTree(r, text)
		}
	}
	return text
}

func insert(text []byte, at int, piece string) []byte {
	return append(append(bytes.Clone(text[:at]), piece...), text[at:]...)
}

// mangleTree replaces, swaps or removes members somewhere in a JSON text that can be read.
func mangleTree(r *rand.Rand, text []byte) []byte {
	var tree any
	if json.Unmarshal(text, &tree) != nil {
		return text
	}
	type place struct {
		in   map[string]any
		name string
	}
	var places []place
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			names := make([]string, 0, len(v))
			for name := range v {
				names = append(names, name)
			}
			sort.Strings(names) // or the input would be another in every run
			for _, name := range names {
				places = append(places, place{v, name})
				walk(v[name])
			}
		case []any:
			for _, each := range v {
				walk(each)
			}
		}
	}
	walk(tree)
	if len(places) == 0 {
		return text
	}
	one, other := places[r.IntN(len(places))], places[r.IntN(len(places))]
	const mark = "here it is put as text"
	raw := ""
	switch r.IntN(8) {
	case 0:
		delete(one.in, one.name)
	case 1: // swapped, as texts: one may hold the other
		a, _ := json.Marshal(one.in[one.name])
		b, _ := json.Marshal(other.in[other.name])
		other.in[other.name], one.in[one.name] = json.RawMessage(a), json.RawMessage(b)
	case 2: // deep
		deep := 100 << r.IntN(9)
		one.in[one.name], raw = mark, strings.Repeat([]string{"[", `{"a":`}[r.IntN(2)], deep)
		raw += "1" + strings.Repeat(map[bool]string{true: "]", false: "}"}[raw[0] == '['], deep)
	case 3: // huge
		one.in[one.name], raw = mark, []string{"1e999999", "-1e-999999", strings.Repeat("9", 5000), "0x10", "01", "NaN", "1." + strings.Repeat("3", 3000)}[r.IntN(7)]
	case 4:
		one.in[one.name] = strings.Repeat([]string{"a", "ü", "*.>", "%", "\r\n"}[r.IntN(5)], 1<<r.IntN(16))
	case 5:
		one.in["extra"+one.name] = one.in[one.name]
	default:
		one.in[one.name] = []any{nil, true, -1, 1.5, "", "x", []any{}, map[string]any{}, []any{map[string]any{"id": 1}}, "2026-13-45T99:00:00Z", "dev.cdevents.a.b.9.9.9"}[r.IntN(11)]
	}
	out, err := json.Marshal(tree)
	if err != nil {
		return text
	}
	return bytes.Replace(out, []byte(`"`+mark+`"`), []byte(raw), 1)
}

// mangleHeaders leaves what frames a request alone, and what steers the bus: others are tried for those.
func mangleHeaders(r *rand.Rand, headers [][2]string) [][2]string {
	at := r.IntN(len(headers))
	switch r.IntN(6) {
	case 0:
		return append(headers[:at:at], headers[at+1:]...)
	case 1:
		return append(headers, headers[at])
	case 2:
		return append(headers, [2]string{"ce-id", "another"})
	case 3:
		return append(headers, [2]string{[]string{"ce-causationid", "ce-principal", "ce-phase", "ce-time", "ce-sequence", "Content-Encoding", "ce-ü"}[r.IntN(7)], "x"})
	case 4:
		headers[at][0] = strings.ToUpper(headers[at][0])
	default:
		headers[at][1] = []string{
			"", "%", "%zz", "%ff%fe", "\xff", "ü", "\x01", "\x7f", "a%0d%0aNats-Rollup: all", strings.Repeat("a", 20000), "text/plain", "application/cloudevents+avro",
			"application/json; charset=utf-16", ";;", "2.0",
		}[r.IntN(15)]
	}
	return headers
}

// Whatever comes over HTTP is answered: taken where it is an event all the same, else with what is wrong. What was taken is
// on the stream, and nothing else.
func TestMalformedOverHTTP(t *testing.T) {
	w, m := newWorld(t), newMangler(t)
	var taken, known, next atomic.Int64
	var mu sync.Mutex
	statuses := map[int]int{}
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			c := &rawClient{address: strings.TrimPrefix(w.url, "http://")}
			defer c.close()
			for n := int(next.Add(1)) - 1; n < malformedEach; n = int(next.Add(1)) - 1 {
				status, answer, err := c.post("/events", m.input(n, true))
				if err != nil {
					t.Errorf("input %d is not answered: %v", n, err)
					return
				}
				if status != 202 && status != 207 && (status < 400 || status >= 500) {
					t.Errorf("input %d: %d %s", n, status, answer)
				}
				mu.Lock()
				statuses[status]++
				mu.Unlock()
				for _, r := range receipts(answer) {
					switch {
					case r.Sequence == 0:
					case r.Duplicate:
						known.Add(1)
					default:
						taken.Add(1)
					}
				}
			}
		})
	}
	senders.Wait()
	t.Logf("answers %v; %d claims taken, %d known already", statuses, taken.Load(), known.Load())
	answered := 0
	for _, n := range statuses {
		answered += n
	}
	if answered != malformedEach || int64(w.claims()) != taken.Load() {
		t.Errorf("%d of %d answered; %d claims on the stream, %d taken", answered, malformedEach, w.claims(), taken.Load())
	}
	if taken.Load() == 0 || statuses[400] < malformedEach/4 {
		t.Error("the inputs are not what they should be")
	}
	if r := w.claim(ticket("fine", "after all that")); r.Duplicate {
		t.Errorf("a valid one: %+v", r)
	}
}

// receipts are those of an answer to one event or to a batch.
func receipts(answer []byte) (all []receipt) {
	var one receipt
	if json.Unmarshal(answer, &all) == nil {
		return all
	}
	if json.Unmarshal(answer, &one) == nil {
		all = []receipt{one}
	}
	return all
}

// rawClient sends what Go's client refuses to send.
type rawClient struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (c *rawClient) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *rawClient) post(path string, in malformed) (status int, answer []byte, err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.address); err != nil {
			return 0, nil, err
		}
		c.reader = bufio.NewReader(c.conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	// The server refuses such a header and closes without reading the body, and what is unread then takes the answer along.
	for _, h := range in.headers {
		if strings.ContainsAny(h[0], "ü") || strings.ContainsFunc(h[1], unicode.IsControl) {
			in.body = nil
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n", path, len(in.body))
	for _, h := range in.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	b.Write(in.body)
	_, failed := c.conn.Write(b.Bytes()) // a server may answer before it has read all
	resp, err := http.ReadResponse(c.reader, nil)
	if err == nil {
		answer, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err != nil {
		c.close()
		return 0, nil, errors.Join(err, failed)
	}
	if resp.Close || failed != nil {
		c.close()
	}
	return resp.StatusCode, answer, nil
}

// Whatever comes over NATS is a claim, or a dead letter with the reason, and the next one is read.
func TestMalformedOverNATS(t *testing.T) {
	w, m := newWorld(t), newMangler(t)
	js := w.submitter()
	for n := range malformedEach {
		in := m.input(n, false)
		msg := &nats.Msg{Subject: "submit.local.shop", Data: in.body, Header: nats.Header{}}
		for _, h := range in.headers {
			msg.Header[h[0]] = append(msg.Header[h[0]], h[1])
		}
		_, err := js.PublishMsgAsync(msg)
		if errors.Is(err, nats.ErrBadHeaderMsg) { // the client does not send such headers
			msg.Header = nil
			_, err = js.PublishMsgAsync(msg)
		}
		if err != nil {
			t.Fatalf("input %d: %v", n, err)
		}
	}
	w.submit(js, "submit.local.shop", structured(t, ticket("fine", "after all that")))
	inbox, err := w.host.JS.Stream(t.Context(), "SUBMIT_local")
	if err != nil {
		t.Fatal(err)
	}
	left := func(s jetstream.Stream) uint64 {
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	for before := uint64(1); before > 0; { // as long as it goes on
		w.until("the inbox is read", func() bool { n := left(inbox); moved := n < before || n == 0; before = n; return moved })
	}
	letters, err := w.host.JS.Stream(t.Context(), natsd.DeadLetter)
	if err != nil {
		t.Fatal(err)
	}
	claims, dead, known := w.claims(), left(letters), w.number("lemnis_gateway_duplicates_total")
	t.Logf("%d claims, %d dead letters, %d known already", claims, dead, known)
	if claims+dead+known != malformedEach+1 || claims < 2 || dead < malformedEach/4 {
		t.Errorf("%d claims, %d dead letters, %d known already of %d", claims, dead, known, malformedEach+1)
	}
	for sequence := uint64(1); sequence <= dead; sequence += dead/50 + 1 {
		l, err := letters.GetMsg(t.Context(), sequence)
		if err != nil || l.Header.Get("Lemnis-Reason") == "" {
			t.Errorf("dead letter %d has no reason: %v", sequence, err)
		}
	}
	var p page
	if w.get("/events?key=fine", &p); p.ids() != "claim:fine" {
		t.Errorf("the valid one: %s", p.ids())
	}
}

// number reads a number of /metrics.
func (w *world) number(name string) uint64 {
	w.t.Helper()
	_, text := w.send(http.MethodGet, "/metrics", "")
	for line := range strings.SplitSeq(text, "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				w.t.Fatal(err)
			}
			return uint64(f)
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}
