package events

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// What is read by hand has to be what encoding/json reads, for every type and whatever stands there.
func TestContentIsReadAsEncodingJSONDoes(t *testing.T) {
	byHand := 0
	for _, entry := range Catalogue() {
		typ := reflect.TypeOf(entry.zero)
		s := shapeOf(typ)
		if s == nil {
			t.Errorf("%s is not read by hand", entry.Type)
			continue
		}
		full, err := json.Marshal(entry.zero)
		if err != nil {
			t.Fatal(err)
		}
		contents := []string{string(full), "{}", "null", "[]", `{"unknown":1}`, `{"`, ""}
		for name := range s {
			quoted, _ := json.Marshal(name)
			for _, value := range []string{
				`"plain"`, `""`, `"\u00e9\n"`, "\"\xff\"", `"é"`, "null", "true", "1", "1.5", "-1e3", "[]", `["a","b"]`, "{}", `{"a":"b"}`, `[{}]`, `"1s"`,
				`"2026-01-02T03:04:05Z"`, `x`, `"`, `[1`, `01`,
			} {
				contents = append(contents, `{`+string(quoted)+`:`+value+`}`, `{`+string(quoted)+`:"first",`+string(quoted)+`:`+value+`}`)
			}
		}
		for _, raw := range contents {
			want := reflect.New(typ)
			wantErr := json.Unmarshal([]byte(raw), want.Interface())
			got := reflect.New(typ)
			if !s.read([]byte(raw), got.Elem()) {
				continue
			}
			byHand++
			if wantErr != nil {
				t.Errorf("%s: %s is read, but encoding/json says %v", entry.Type, raw, wantErr)
			} else if !reflect.DeepEqual(got.Interface(), want.Interface()) {
				t.Errorf("%s: %s is %+v, for encoding/json %+v", entry.Type, raw, got, want)
			}
		}
	}
	if byHand < 1000 {
		t.Errorf("only %d contents were read by hand", byHand)
	}
}

func TestGoldenContentsAreReadByHand(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens:", err)
	}
	read := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Context struct{ Type Type }
			Subject struct{ Content json.RawMessage }
		}
		if json.Unmarshal(data, &body) != nil || catalogue[body.Context.Type] == nil {
			continue
		}
		typ := reflect.TypeOf(catalogue[body.Context.Type].zero)
		if read++; !shapeOf(typ).read(body.Subject.Content, reflect.New(typ).Elem()) {
			t.Errorf("%s is left to encoding/json", file)
		}
	}
	if read < len(catalogue) {
		t.Errorf("%d of %d types have a golden that was looked at", read, len(catalogue))
	}
}

// Types that are awkward on purpose are left to encoding/json, or read as it does.
func TestShapesOfAwkwardTypes(t *testing.T) {
	type Inner struct {
		A string `json:"a"`
	}
	type twice struct {
		Inner
		A string `json:"a"`
	}
	type quoted struct {
		N int `json:"n,string"`
	}
	type pointed struct{ *Inner }
	for _, v := range []any{twice{}, quoted{}, pointed{}, json.RawMessage{}, 1} {
		if s := shapeOf(reflect.TypeOf(v)); s != nil {
			t.Errorf("%T is read by hand: %v", v, s)
		}
	}
	type plain struct {
		Inner
		Dash   string `json:"-,"` //nolint:staticcheck // one of the awkward ones
		hidden string
		Bare   string
		Raw    json.RawMessage `json:"raw"`
	}
	var got plain
	if !shapeOf(reflect.TypeFor[plain]()).read([]byte(`{"a":"1","-":"2","Bare":"3","raw":[1]}`), reflect.ValueOf(&got).Elem()) {
		t.Fatal("not read")
	}
	if got.A != "1" || got.Dash != "2" || got.Bare != "3" || string(got.Raw) != "[1]" || got.hidden != "" {
		t.Errorf("%+v", got)
	}
}
