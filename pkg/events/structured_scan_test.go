package events

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// byLibrary reads with encoding/json alone.
func byLibrary(data []byte) (Event, []byte, error) {
	var s structured
	if err := json.Unmarshal(data, &s); err != nil {
		return Event{}, nil, err
	}
	return s.event()
}

func structuredGoldens(t testing.TB) (out [][]byte) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var small bytes.Buffer
		if err := json.Compact(&small, text); err != nil {
			t.Fatal(err)
		}
		e, err := DecodeBody(small.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		e.Kind, e.Sequence, e.Project, e.Attempt = Stated, 7, "shop", 2
		data, err := EncodeStructuredWith(e, small.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

// sameAsLibrary asks that a text is read as encoding/json reads it, and refused where that refuses it.
func sameAsLibrary(t *testing.T, data []byte) {
	t.Helper()
	want, wantBody, wantErr := byLibrary(data)
	got, body, err := DecodeStructured(data)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%v, by the library %v: %s", err, wantErr, data)
	}
	if err == nil && (!reflect.DeepEqual(want, got) || !bytes.Equal(wantBody, body)) {
		t.Fatalf("want %+v\ngot  %+v\nin %s", want, got, data)
	}
}

func TestStructuredIsReadAsByTheLibrary(t *testing.T) {
	for _, text := range structuredGoldens(t) {
		var s structured
		if !s.scan(text) {
			t.Errorf("this is left to the library: %s", text)
		}
		sameAsLibrary(t, text)
		for i := len(text) % 7; i < len(text); i += 7 {
			m := bytes.Clone(text)
			m[i] = "\"{}[],:\\0-.enu \x00\xff"[i%17]
			sameAsLibrary(t, m)
			sameAsLibrary(t, append(bytes.Clone(text[:i]), text[i+1:]...))
		}
	}
	text := string(structuredGoldens(t)[0])
	for _, change := range [][2]string{
		{`"project":"shop"`, `"Project":"shop"`}, {`"project":"shop"`, `"project":"shop","PROJECT":"other"`}, {`"project":"shop"`, `"project":"shop","project":"other"`},
		{`"project":"shop"`, `"project":null`}, {`"project":"shop"`, `"project":"shop","project":null`}, {`"project":"shop"`, `"project":7`},
		{`"project":"shop"`, `"pro\u006aect":"shop"`}, {`"project":"shop"`, `"project":"sh\u006fp"`}, {`"project":"shop"`, `"project":"shop","extra":{"a":[1]}`},
		{`"project":"shop"`, `"project":"shop","extra":01`}, {`"project":"shop"`, `"project":"shop","Kind":"claim"`}, {`"project":"shop"`, `"project":"shop","ſubject":"x"`},
		{`"attempt":"2"`, `"attempt":2`}, {`"attempt":"2"`, `"attempt":"two"`}, {`"attempt":"2"`, `"attempt":-2`}, {`"data":{`, `"data":null,"data":{`}, {`"data":{`, `"data_base64":"e30=","data":{`},
		{`"data":{`, `"DATA":{`}, {`"data":{`, ` "data" : {`}, {`"specversion":"1.0"`, `"specversion":"1.1"`},
	} {
		if changed := strings.Replace(text, change[0], change[1], 1); changed == text {
			t.Errorf("there is no %s in %s", change[0], text)
		} else {
			sameAsLibrary(t, []byte(changed))
		}
	}
}

func FuzzStructuredScan(f *testing.F) {
	for _, text := range structuredGoldens(f) {
		f.Add(text)
	}
	f.Fuzz(sameAsLibrary)
}

func TestStatedChain(t *testing.T) {
	for _, text := range structuredGoldens(t) {
		_, body, err := byLibrary(text)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := DecodeBody(body)
		if err != nil {
			t.Fatal(err)
		}
		if chain, err := StatedChain(body); err != nil || chain != whole.Chain {
			t.Errorf("%q, %v; the body states %q", chain, err, whole.Chain)
		}
	}
	if _, err := StatedChain([]byte("{")); err == nil {
		t.Error("half a body has a chain")
	}
}
