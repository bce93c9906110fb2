package schema_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cdevents/sdk-go/pkg/api"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/contract"
)

// The schemas that are made from the Go types demand, allow and forbid what those of CDEvents do, member by member. Only
// the member lemnis of customData, which is Lemnis's own, is described further.
func TestSchemasAreThoseOfCDEvents(t *testing.T) {
	standard := 0
	for _, entry := range events.Catalogue() {
		if entry.Type.Custom() {
			continue
		}
		standard++
		url := fmt.Sprintf(api.CDEventsSchemaURLTemplate, events.SpecVersion, entry.Type.Subject(), entry.Type.Predicate())
		official, ok := api.SchemasById[url]
		if !ok {
			t.Errorf("CDEvents has no schema of %s", entry.Type)
			continue
		}
		own, _ := contract.Schema(entry.Type)
		compare(t, entry.Type.Short(), essence{url, read(t, official)}, essence{"", read(t, string(own))})
	}
	if standard != 45 {
		t.Errorf("%d standard types; CDEvents %s has 45", standard, events.SpecVersion)
	}
}

// The envelope of Lemnis's own types is that of CDEvents's custom ones.
func TestCustomSchemasAreThoseOfCDEvents(t *testing.T) {
	url := fmt.Sprintf(api.CDEventsCustomSchemaURLTemplate, events.SpecVersion)
	for _, entry := range events.Catalogue() {
		if !entry.Type.Custom() {
			continue
		}
		text, _ := contract.Schema(entry.Type)
		official, own := read(t, api.SchemasById[url]), read(t, string(text))
		at(official, "properties", "context", "properties")["type"] = map[string]any{"const": string(entry.Type)}
		content := at(own, "properties", "subject", "properties", "content")
		clear(content)
		content["type"] = "object"
		compare(t, entry.Type.Short(), essence{url, official}, essence{"", own})
	}
}

func read(t *testing.T, text string) map[string]any {
	t.Helper()
	var s map[string]any
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func at(s map[string]any, path ...string) map[string]any {
	for _, p := range path {
		s = s[p].(map[string]any)
	}
	return s
}

// essence is what a schema decides: without annotations, references resolved, one form for what can be said in several.
type essence struct {
	url  string // of an official schema
	root map[string]any
}

// stricter is the one difference: CDEvents lets a reference to a test run have an empty source, other references not.
const stricter = "Run/properties/source/minLength is 1, in CDEvents <nil>"

func compare(t *testing.T, name string, official, own essence) {
	t.Helper()
	want, got := official.of(official.root), own.of(own.root)
	if w := want["properties"].(map[string]any)["context"].(map[string]any)["properties"].(map[string]any); w["specversion"] != nil {
		w["specversion"] = map[string]any{"enum": []any{events.SpecVersion}} // which version it is says the choice of the schema
	}
	if reflect.DeepEqual(want, got) {
		return
	}
	for _, d := range differences("", want, got) {
		if !strings.HasSuffix(d, stricter) {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func differences(path string, want, got any) (all []string) {
	w, isW := want.(map[string]any)
	g, isG := got.(map[string]any)
	if !isW || !isG {
		if !reflect.DeepEqual(want, got) {
			all = append(all, fmt.Sprintf("%s is %v, in CDEvents %v", path, got, want))
		}
		return all
	}
	names := map[string]bool{}
	for n := range w {
		names[n] = true
	}
	for n := range g {
		names[n] = true
	}
	for n := range names {
		all = append(all, differences(path+"/"+n, w[n], g[n])...)
	}
	slices.Sort(all)
	return all
}

func (e essence) of(s map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range s {
		switch name {
		case "$schema", "$id", "$defs", "title", "description", "default", "example", "examples", "format":
		case "additionalProperties":
			if v != true {
				out[name] = v
			}
		case "const":
			out["enum"] = []any{v}
		case "required":
			list := v.([]any)
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
			if len(list) > 0 {
				out[name] = list
			}
		case "properties":
			members := map[string]any{}
			for n, m := range v.(map[string]any) {
				if n != "lemnis" {
					members[n] = e.of(m.(map[string]any))
				}
			}
			if len(members) > 0 {
				out[name] = members
			}
		case "anyOf", "oneOf":
			var list []any
			for _, m := range v.([]any) {
				list = append(list, e.of(m.(map[string]any)))
			}
			free := slices.IndexFunc(list, func(m any) bool { return m.(map[string]any)["type"] == "string" })
			if name == "anyOf" && free >= 0 { // beside values that it has anyway
				maps.Copy(out, list[free].(map[string]any))
				continue
			}
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			out[name] = list
		case "$ref":
			for n, m := range e.refer(v.(string)) {
				out[n] = m
			}
		case "items":
			out[name] = e.of(v.(map[string]any))
		default:
			out[name] = v
		}
	}
	if out["enum"] != nil {
		delete(out, "type") // the values say it
		delete(out, "minLength")
	}
	return out
}

func (e essence) refer(ref string) map[string]any {
	if name, ok := strings.CutPrefix(ref, "#/$defs/"); ok {
		return e.of(at(e.root, "$defs", name))
	}
	base := e.url[:strings.LastIndexByte(e.url, '/')+1]
	url := base + ref
	var s map[string]any
	if err := json.Unmarshal([]byte(api.SchemasById[url]), &s); err != nil {
		panic(url + ": " + err.Error())
	}
	return essence{url, s}.of(s)
}
