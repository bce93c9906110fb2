package schema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// judged is what the library and encoding/json say of a body: the judges that [schema.Certain] may never be laxer than.
func judged(t events.Type, body []byte) bool {
	if !utf8.Valid(body) || repeats(body) || schema.Validate(body) != nil {
		return false
	}
	e, err := events.DecodeBody(body)
	return err != nil || e.Type == t // what is not decoded is not admitted anyway
}

// repeats looks for two members of one name in an object, token by token.
func repeats(body []byte) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	type level struct {
		names map[string]bool // nil in an array
		value bool
	}
	var open []level
	for {
		token, err := d.Token()
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		top := len(open) - 1
		if name, ok := token.(string); ok && top >= 0 && open[top].names != nil && !open[top].value {
			if open[top].names[name] {
				return true
			}
			open[top].names[name], open[top].value = true, true
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
			continue
		case json.Delim('['):
			open = append(open, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
		}
		if top = len(open) - 1; top >= 0 {
			open[top].value = false
		}
	}
}

func goldens(t testing.TB) map[events.Type][]byte {
	t.Helper()
	out := map[events.Type][]byte{}
	for _, entry := range events.Catalogue() {
		body, err := os.ReadFile(filepath.Join("..", "testdata", entry.Type.Subject()+"."+entry.Type.Predicate()+".json"))
		if err != nil {
			body, err = os.ReadFile(filepath.Join("..", "testdata", entry.Type.Short()+".json"))
		}
		if err != nil {
			t.Fatal(err)
		}
		out[entry.Type] = body
	}
	return out
}

// Every ordinary event is judged by one look at it.
func TestGoldensAreCertain(t *testing.T) {
	slow := map[string]bool{"project.configured": true} // has a pattern
	for of, body := range goldens(t) {
		if !schema.Certain(of, body) && !slow[of.Short()] {
			t.Errorf("%s is left to the library", of.Short())
		}
		if schema.Certain("dev.cdevents.nothing.0.0.0", body) {
			t.Errorf("%s passes for another type", of.Short())
		}
	}
}

// mutants are what one change makes of a text: a byte replaced, bytes cut out, a part doubled. At each ninth place, another one each time.
func mutants(text []byte, each func([]byte)) {
	const bytesOfJSON = "\"{}[],:\\0-.enu \x00\x7f\xff"
	for i := len(text) % 9; i < len(text); i += 9 {
		m := bytes.Clone(text)
		m[i] = bytesOfJSON[i%len(bytesOfJSON)]
		each(m)
		if n := 1 + i%7; i+n <= len(text) {
			each(append(bytes.Clone(text[:i]), text[i+n:]...))
			each(append(append(bytes.Clone(text[:i+n]), text[i:i+n]...), text[i+n:]...))
		}
	}
}

// What is certain, the library lets through; and what the library lets through is nearly always certain.
func TestCertainIsNeverLaxer(t *testing.T) {
	passed, missed := 0, 0
	for of, body := range goldens(t) {
		if testing.Short() && of.Custom() {
			continue
		}
		var small bytes.Buffer
		if err := json.Compact(&small, body); err != nil {
			t.Fatal(err)
		}
		n := 0
		mutants(small.Bytes(), func(m []byte) {
			if n++; n%3 != 0 && !schema.Certain(of, m) {
				return // the library is slow: it judges all that is certain, and a part of the rest
			}
			certain, valid := schema.Certain(of, m), judged(of, m)
			if certain && !valid {
				t.Errorf("certain, but not valid: %s", m)
			}
			if valid {
				passed++
				if !certain {
					missed++
				}
			}
		})
	}
	if passed < 500 || missed*10 > passed {
		t.Errorf("of %d valid texts %d were left to the library", passed, missed)
	}
}

func TestCertainRefuses(t *testing.T) {
	body := func(content string) []byte {
		return []byte(`{"context":{"specversion":"0.5.1","id":"1","source":"/s","type":"dev.cdevents.ticket.created.0.2.0","timestamp":"2026-01-01T00:00:00Z"},` +
			`"subject":{"id":"k","content":` + content + `}}`)
	}
	custom := func(data string) []byte {
		return append(bytes.TrimSuffix(body(`{"summary":"s","creator":"ann","uri":"/u"}`), []byte("}")), `,"customData":`+data+"}"...)
	}
	of := events.TypeOf(events.TicketCreated{})
	var context struct{ Context struct{ Type events.Type } }
	if err := json.Unmarshal(body("{}"), &context); err != nil || context.Context.Type != of {
		t.Fatalf("the type is %s, %v", of, err)
	}
	const whole = `"summary":"s","creator":"ann","uri":"/u"`
	for name, c := range map[string]struct {
		body    []byte
		certain bool
	}{
		"whole":                      {body("{" + whole + "}"), true},
		"spaces":                     {body(" {\n" + whole + "\t} "), true},
		"a member twice":             {body("{" + whole + `,"uri":"/v"}`), false},
		"a foreign member":           {custom(`{"a":1}`), true},
		"a foreign one twice":        {custom(`{"a":1,"a":2}`), false},
		"twice further in":           {custom(`{"a":[{"b":1,"b":2}]}`), false},
		"a name with an escape":      {body("{" + whole + `,"ur\u0069":"/v"}`), false},
		"an escape":                  {body(`{"summary":"\u00e9\n\"","creator":"ann","uri":"/u"}`), true},
		"a broken escape":            {custom(`{"x":"\u00g1"}`), false},
		"a control as a digit":       {custom("{\"x\":\"\\u00\x101\"}"), false},
		"a control character":        {custom("{\"x\":\"\x01\"}"), false},
		"no UTF-8":                   {custom("{\"x\":\"\xff\"}"), false},
		"a number with a zero":       {custom(`{"x":01}`), false},
		"a number without end":       {custom(`{"x":1.}`), false},
		"an exponent":                {custom(`{"x":-1.5E+7}`), true},
		"a comma too many":           {body("{" + whole + `,}`), false},
		"deep":                       {custom(`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}"), false},
		"something behind":           {append(body("{"+whole+"}"), '1'), false},
		"a missing member":           {body(`{"creator":"ann","uri":"/u"}`), false},
		"nothing":                    {nil, false},
		"two contexts":               {[]byte(`{"context":{},` + string(body("{" + whole + "}")[1:])), false},
		"a member of the wrong kind": {body(`{"summary":7,"creator":"ann","uri":"/u"}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := schema.Certain(of, c.body); got != c.certain {
				t.Errorf("%v for %s", got, c.body)
			}
			if c.certain && !judged(of, c.body) {
				t.Errorf("the library refuses it: %v", schema.Validate(c.body))
			}
		})
	}
}

func FuzzCertain(f *testing.F) {
	types := events.Catalogue()
	all := goldens(f)
	for i, entry := range types {
		f.Add(i, all[entry.Type])
	}
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		of := types[uint(i)%uint(len(types))].Type
		if schema.Certain(of, body) && !judged(of, body) {
			t.Errorf("certain, but not valid: %v in %s", schema.Validate(body), body)
		}
	})
}

func BenchmarkCertain(b *testing.B) {
	of := events.TypeOf(events.TicketCreated{})
	var small bytes.Buffer
	if err := json.Compact(&small, goldens(b)[of]); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !schema.Certain(of, small.Bytes()) {
			b.Fatal("not certain")
		}
	}
}
