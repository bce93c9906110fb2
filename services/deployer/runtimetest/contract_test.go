//go:build linux

package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const shopContract = `{"openapi": "%s", "servers": [{"url": "https://shop.example/{v}", "variables": {"v": {"default": "api"}}}], "security": [],
"paths": {
  "/things/{id}": {"parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer", "example": 7}}],
    "get": {"parameters": [{"name": "lang", "in": "query", "required": true, "example": "de"}, {"name": "page", "in": "query"}],
      "responses": {"200": {"$ref": "#/components/responses/thing"}, "404": {"description": "none"}}},
    "delete": {"responses": {"204": {}}}},
  "/hidden": {"get": {"security": [{"token": []}], "responses": {"200": {"content": {"text/plain": {}}}}}},
  "/unknown/{name}": {"get": {"parameters": [{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}], "responses": {"200": {}}}}},
"components": {
  "responses": {"thing": {"headers": {"ETag": {"required": true}}, "content": {"application/json; charset=utf-8": {"schema": {"$ref": "#/components/schemas/thing"}}}}},
  "schemas": {"thing": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"%s}}}}}}`

func TestContractOfAService(t *testing.T) {
	nullable := fmt.Sprintf(shopContract, "3.0.3", `, "nullable": true`)
	for _, test := range []struct {
		name, document, body, media string
		status, hidden              int
		must, none, passed          bool
		reason                      string
	}{
		{name: "as it says", document: nullable, body: `{"id": 7, "name": null}`, passed: true, reason: "1 operations answer as /openapi.json says, 1 were not asked: they have no example of a parameter; 1 want credentials"},
		{name: "a newer version", document: fmt.Sprintf(shopContract, "3.1.0", ""), body: `{"id": 7, "name": null}`, reason: "/name"},
		{name: "YAML", document: "openapi: 3.0.0\npaths:\n  /api/hidden:\n    get:\n      responses:\n        '200': {description: fine}\n", hidden: 200, passed: true, reason: "1 operations"},
		{name: "a field is missing", document: nullable, body: `{"name": "x"}`, reason: "GET /api/things/7?lang=de: answers 200 with another body"},
		{name: "a field of another type", document: nullable, body: `{"id": "7"}`, reason: "/id"},
		{name: "no JSON", document: nullable, body: `oops`, reason: "a body that is no JSON"},
		{name: "another media type", document: nullable, body: `{"id": 7}`, media: "text/html", reason: `as "text/html", and it names application/json`},
		{name: "a status that is not named", document: nullable, body: `{"id": 7}`, status: 202, reason: "answers 202, and it names 200, 404"},
		{name: "one that is", document: nullable, status: 404, passed: true, reason: "1 operations"},
		{name: "broken", document: nullable, status: 500, reason: "answers 500"},
		{name: "a header is missing", document: nullable, body: `{"id": 7}`, media: "application/json; v=none", reason: "without the header ETag"},
		{name: "secured, and open", document: nullable, body: `{"id": 7}`, hidden: 302, reason: "GET /api/hidden: answers 302"},
		{name: "refs that are elsewhere", document: strings.Replace(nullable, "#/components/schemas/thing", "file:///etc/passwd", 1), body: `{"id": 7}`, reason: "its schema can not be read"},
		{name: "refs in a circle", document: strings.Replace(nullable, `"#/components/responses/thing"`, `"#/paths/~1things~1{id}/get/responses/200"`, 1), body: `{"id": 7}`, reason: "what it refers to for that is not within the document"},
		{name: "none, which may be", none: true},
		{name: "none, which may not be", none: true, must: true, reason: "/openapi.json: it answers 404"},
		{name: "a page for everything", document: "<html>hello</html>"},
		{name: "a page of lines for everything", document: "hello\n---\nthere\n---\n"},
		{name: "a page of brackets for everything", document: "a: " + strings.Repeat("[", 200)},
		{name: "a page for everything, which may not be", document: "<html>hello</html>", must: true, reason: "/openapi.json: it is no OpenAPI 3 document"},
		{name: "nothing to ask", document: `{"openapi": "3.1.0", "paths": {"/x": {"post": {}}}}`, must: true, reason: "no GET operation that can be asked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method != http.MethodGet:
					t.Errorf("%s %s", r.Method, r.URL)
				case r.URL.Path == "/openapi.json" && !test.none:
					fmt.Fprint(w, test.document)
				case r.URL.RequestURI() == "/api/things/7?lang=de":
					if w.Header().Set("Content-Type", "application/json"); test.media != "" {
						w.Header().Set("Content-Type", test.media)
					}
					if !strings.Contains(test.media, "none") {
						w.Header().Set("ETag", `"1"`)
					}
					w.WriteHeader(max(test.status, 200))
					fmt.Fprint(w, test.body)
				case r.URL.Path == "/api/hidden":
					w.WriteHeader(max(test.hidden, 200+201*btoi(test.hidden == 0)))
				default:
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			all := Run(t.Context(), Instance{URL: server.URL}, Suite{Contract: &Contract{Path: "/openapi.json", Must: test.must}})
			if test.reason == "" {
				if len(all) != 0 {
					t.Errorf("tested what is not there: %+v", all)
				}
				return
			}
			if len(all) != 1 || all[0].Passed != test.passed || !strings.Contains(all[0].Reason, test.reason) {
				t.Errorf("%+v", all)
			}
		})
	}
}

// What a document can say is bounded in where it leads, in time and in memory; what it says is read as the standard has it.
func TestOddContracts(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("it was led to %s", r.URL) }))
	defer elsewhere.Close()
	away := strings.TrimPrefix(elsewhere.URL, "http://")
	get := func(path, responses string) string {
		return fmt.Sprintf(`{"openapi": "3.0.3", "security": [{"token": []}], "paths": {%q: {"get": {"responses": %s}}}}`, path, responses)
	}
	many := strings.Builder{}
	for i := range mostOperations + 1 {
		fmt.Fprintf(&many, `"/%d": {"get": {}}, `, i)
	}
	bomb := strings.Builder{}
	bomb.WriteString("openapi: 3.0.3\na0: &a0 [x]\n")
	for i := range 9 {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 10))
	}
	referring := func(name string) string {
		return fmt.Sprintf(`{"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/%s"}}}}}}}`, name)
	}
	schema := func(text string) string {
		return `{"200": {"content": {"application/json": {"schema": ` + text + `}}}}`
	}
	unfolding := strings.Builder{} // each twice what the next is
	for i := range 40 {
		fmt.Fprintf(&unfolding, `"a%d": {"allOf": [{"$ref": "#/components/schemas/a%d"}, {"$ref": "#/components/schemas/a%d"}]}, `, i, i+1, i+1)
	}
	patterns := strings.Builder{}
	for i := range mostPatterns / 10_000 {
		fmt.Fprintf(&patterns, `{"pattern": "(%dabcdefghij){1000}"}, `, i)
	}
	const written = `{"200": {"content": {"application/json": {"schema": {"required": ["id", "secret"], "properties": {"secret": {"writeOnly": true}}}}}}}`
	for name, test := range map[string]struct {
		document string
		passed   bool
		reason   string
	}{
		"a path that is another address":     {get("@"+away+"/x", `{"200": {}}`), false, "does not begin with /"},
		"a server that is another address":   {`{"servers": [{"url": "@` + away + `"}], ` + get("/x", `{"404": {}}`)[1:], true, "1 operations"},
		"a path whose item is elsewhere":     {`{"openapi": "3.1.0", "paths": {"/x": {"$ref": "https://example.org/x"}}}`, false, "what /x refers to is not within the document"},
		"an answer that is elsewhere":        {get("/json", `{"200": {"$ref": "#/components/responses/none"}}`), false, "what it refers to for that is not within the document"},
		"an answer without an end":           {get("/stream", `{"200": {"content": {"text/event-stream": {}}}}`), true, "1 operations"},
		"too many operations":                {`{"openapi": "3.1.0", "paths": {` + many.String() + `"/x": {}}}`, false, "it has 1001 GET operations"},
		"aliases":                            {bomb.String(), false, "aliases of YAML are not taken"},
		"more YAML than may be":              {"openapi: 3.0.3\n" + strings.Repeat("#\n", mostYAML), false, "in YAML there may be"},
		"YAML of brackets":                   {strings.Repeat("[", 1<<20), false, "it is no JSON"},
		"YAML of brackets behind a key":      {"a: " + strings.Repeat("[", 1<<15) + strings.Repeat("]", 1<<15), false, "nests deeper than 100 levels"},
		"YAML of lists in lists":             {strings.Repeat("- ", 1<<18), false, "nests deeper than 100 levels"},
		"YAML of keys in keys":               {"a:" + strings.Repeat(" {a:", 1<<15), false, "nests deeper than 100 levels"},
		"YAML of tags":                       {strings.Repeat("!a ", 1<<15), false, "nests deeper than 100 levels"},
		"YAML of many documents":             {strings.Repeat("---\na\n", 1<<15), false, "more than one document"},
		"JSON of brackets":                   {`{"openapi": "3.1.0", "x-a": ` + strings.Repeat("[", 101) + strings.Repeat("]", 101) + "}", false, "nests deeper than 100 levels"},
		"a schema that unfolds":              {get("/json", referring("a0")+`}, "components": {"schemas": {`+unfolding.String()+`"a40": {`), false, "its schema unfolds to more than 10000 schemas"},
		"a schema of many nodes":             {get("/json", `{"200": {"content": {"application/json": {"schema": {"enum": [`+strings.Repeat("1,", mostNodes)+`1]}}}}}`), false, "no answer could be held to /openapi: in 1 of 1 operations it, or its schema, is too large"},
		"what is read as a schema too":       {`{"$defs": {"a": [` + strings.Repeat("1,", mostNodes) + `1]}, ` + get("/json", `{"200": {}}`)[1:], false, `what is under "$defs" is too large`},
		"a number without an end":            {get("/json", `{"200": {"content": {"application/json": {"schema": {"properties": {"id": {"minimum": 1e999999}}}}}}}`), false, "no answer could be held to /openapi: in 1 of 1 operations it, or its schema, is too large"},
		"refs by another name":               {get("/json", `{"200": {"content": {"application/json": {"schema": {"$dynamicRef": "#x", "$dynamicAnchor": "x"}}}}}`), false, "$dynamicRef"},
		"an answer of many values":           {get("/large", `{"200": {"content": {"application/json": {"schema": {"type": "string"}}}}}`), false, "no answer could be held to /openapi: in 1 of 1 operations it, or its schema, is too large"},
		"one of two answers":                 {`{"openapi": "3.1.0", "paths": {"/json": {"get": {"responses": {"200": {}}}}, "/large": {"get": {"responses": {"200": {"content": {"application/json": {"schema": {"type": "string"}}}}}}}}}`, true, "1 operations answer as /openapi says, 0 were not asked: they have no example of a parameter; 1 are not held to their schema, the first since it, or its schema, is too large"},
		"one of fewer, that differ":          {get("/values", `{"200": {"content": {"application/json": {"schema": {"items": {"type": "string"}}}}}}`), false, "another body: at '/0': got number, want string, at '/1': got number, want string"},
		"an answer that nests":               {get("/nests", `{"200": {"content": {"application/json": {"schema": {"type": "string"}}}}}`), false, "no answer could be held to /openapi: in 1 of 1 operations it, or its schema, is too large"},
		"an answer with a number":            {get("/number", `{"200": {"content": {"application/json": {"schema": {"minimum": 1}}}}}`), false, "no answer could be held to /openapi: in 1 of 1 operations it, or its schema, is too large"},
		"an answer of another type, large":   {get("/large", `{"200": {"content": {"text/plain": {}}}}`), false, `as "application/json"`},
		"a tree":                             {get("/tree", referring("a")+`}, "components": {"schemas": {"a": {"type": "object", "properties": {"of": {"type": "array", "items": {"$ref": "#/components/schemas/a"}}}`), false, "at '/of/0/of/0': got number, want object"},
		"what another part describes":        {get("/json", schema(`{"allOf": [{"properties": {"secret": {"writeOnly": true}}}, {"required": ["id", "secret"]}]}`)), true, "1 operations"},
		"what a part beneath describes":      {get("/json", schema(`{"required": ["secret"], "allOf": [{"$ref": "#/x-schemas/0"}, {"$ref": "#/x-schemas/0"}]}`)+`}}}, "x-schemas": [{"allOf": [{"properties": {"secret": {"writeOnly": true}}}]}], "x-x": {"x": {"x": {`), true, "1 operations"},
		"what is described elsewhere":        {get("/json", schema(`{"required": ["secret"], "properties": {"secret": {"$ref": "#/x-schemas/0"}}}`)+`}}}, "x-schemas": [{"writeOnly": true}], "x-x": {"x": {"x": {`), true, "1 operations"},
		"what is described of another":       {get("/json", schema(`{"allOf": [{"properties": {"secret": {"writeOnly": true}}}, {"required": ["uid", "secret"]}]}`)), false, "missing property 'uid'"},
		"a pattern that looks ahead":         {get("/json", schema(`{"required": ["id"], "properties": {"name": {"pattern": "^(?=a)"}}}`)), true, "1 operations"},
		"names that look ahead":              {get("/json", schema(`{"patternProperties": {"^(?!x)": {"type": "string"}}, "additionalProperties": false}`)), true, "1 operations"},
		"a pattern that is too large":        {get("/json", schema(`{"properties": {"name": {"pattern": "((abcdefghij){30}){30}((abcdefghij){30}){30}"}}}`)), true, "1 operations"},
		"a pattern, beneath not":             {get("/json", schema(`{"properties": {"id": {"type": "number"}}, "not": {"propertyNames": {"pattern": "^(?=x)"}}}`)), false, "in 1 of 1 operations its schema has a pattern that RE2 can not read"},
		"a pattern, in one of two":           {get("/json", schema(`{"oneOf": [{"propertyNames": {"pattern": "^(?=x)"}}, {"required": ["id"]}]}`)), false, "a pattern that RE2 can not read"},
		"a pattern, as a condition":          {get("/json", schema(`{"if": {"propertyNames": {"pattern": "^(?=x)"}}, "then": {"required": ["uid"]}}`)), false, "a pattern that RE2 can not read"},
		"a pattern, referred to":             {get("/json", schema(`{"not": {"$ref": "#/x-schemas/0"}}`)+`}}}, "x-schemas": [{"propertyNames": {"pattern": "^(?=x)"}}], "x-x": {"x": {"x": {`), false, "a pattern that RE2 can not read"},
		"a pattern, of those that are left":  {get("/json", schema(`{"allOf": [{"patternProperties": {"^(?=i)": {}}, "additionalProperties": {"type": "string"}}], "unevaluatedProperties": false}`)), false, "a pattern that RE2 can not read"},
		"a pattern, beside a difference":     {get("/json", schema(`{"propertyNames": {"pattern": "^(?=x)"}, "not": {"required": ["id"]}}`)), false, "another body: "},
		"a pattern, where none is needed":    {get("/json", schema(`{"not": {"required": ["uid"], "propertyNames": {"pattern": "^(?=x)"}}}`)), true, "1 operations"},
		"a pattern, in what there is":        {get("/json", schema(`{"contains": {"propertyNames": {"pattern": "^(?=x)"}}, "required": ["uid"]}`)), false, "missing property 'uid'"},
		"a pattern, in one of few":           {get("/tree", schema(`{"properties": {"of": {"contains": {"propertyNames": {"pattern": "^(?=x)"}}, "minContains": 0, "maxContains": 0}}}`)), false, "a pattern that RE2 can not read"},
		"a pattern, of a value that is left": {get("/json", schema(`{"properties": {"id": {"pattern": "^(?=x)"}}, "unevaluatedProperties": false, "required": ["uid"]}`)), false, "missing property 'uid'"},
		"a pattern, as a value":              {get("/value", schema(`{"enum": [{"pattern": "^(?=x)"}]}`)), true, "1 operations"},
		"a pattern, as the only value":       {get("/value", schema(`{"const": {"pattern": "^(?=x)"}}`)), true, "1 operations"},
		"a pattern, of a value within":       {get("/value", schema(`{"properties": {"pattern": {"oneOf": [{"type": "number", "pattern": "^(?=x)"}]}}, "required": ["uid"]}`)), false, "missing property 'uid'"},
		"a pattern, for another type":        {get("/json", schema(`{"oneOf": [{"type": "string", "pattern": "^(?=x)"}, {"type": "object"}], "required": ["uid"]}`)), false, "missing property 'uid'"},
		"names, of a value that is left":     {get("/tree", schema(`{"properties": {"of": {"items": {"patternProperties": {"^(?=x)": {}}}}}, "unevaluatedProperties": false, "required": ["uid"]}`)), false, "missing property 'uid'"},
		"a pattern, by the name of a value":  {get("/json", schema(`{"not": {"properties": {"const": {"pattern": "^(?=x)"}, "id": {"type": "string"}}, "required": ["const"]}, "required": ["uid"]}`)), false, "missing property 'uid'"},
		"patterns that take too much":        {get("/json", schema(`{"propertyNames": {"anyOf": [`+patterns.String()+`{}]}}`)), false, "in 1 of 1 operations it, or its schema, is too large"},
		"another one":                        {get("/json", schema(`{"propertyNames": {"pattern": "^x"}}`)), false, "does not match pattern"},
		"null, where another is combined":    {get("/null", schema(`{"nullable": true, "allOf": [{"$ref": "#/x-schemas/0"}]}`)+`}}}, "x-schemas": [{"type": "object"}], "x-x": {"x": {"x": {`), true, "1 operations"},
		"null, where it may not be":          {get("/null", schema(`{"allOf": [{"type": "object"}]}`)), false, "got null, want object"},
		"no null, nor another":               {get("/json", schema(`{"nullable": true, "allOf": [{"type": "string"}]}`)), false, "got object, want string"},
		"a parameter of another path":        {`{"openapi": "3.1.0", "paths": {"/json": {"get": {"parameters": [{"$ref": "#/paths/~1x/get/parameters/0"}], "responses": {"404": {}}}}, "/x": {"get": {"parameters": [{"name": "x", "in": "query", "required": true}]}}}}`, false, "no GET operation that can be asked"},
		"parameters in parameters":           {`{"openapi": "3.1.0", "paths": {"/{a}": {"get": {"parameters": [{"name": "a", "in": "path", "example": "` + strings.Repeat("a", 1<<12) + `"}]}}, "/` + strings.Repeat("{a}", 1<<18) + `": {"get": {"parameters": [{"name": "a", "in": "path", "example": "` + strings.Repeat("a", 1<<12) + `"}]}}}}`, false, "1 of 1 operations answer otherwise"},
		"a path without an end":              {get("/"+strings.Repeat("a", 10_000), `{"200": {}}`), false, "1 of 1 operations"},
		"one that does not begin":            {get(strings.Repeat("a", 10_000), `{"200": {}}`), false, "does not begin with /"},
		"one that is elsewhere":              {`{"openapi": "3.1.0", "paths": {"/` + strings.Repeat("a", 10_000) + `": {"$ref": "#/none"}}}`, false, "is not within the document"},
		"nothing but what is closed":         {get("/closed", `{"200": {}}`), false, "no GET operation that can be asked, 1 want credentials"},
		"the type goes before any":           {get("/json", `{"200": {"content": {"*/*": {}, "application/*": {}, "application/json": {"schema": {"required": ["none"]}}}}}`), false, "none"},
		"what is for requests alone":         {get("/json", written), true, "1 operations"},
		"what is for requests, and another":  {get("/json", strings.ReplaceAll(written, `"id"`, `"uid"`)), false, "uid"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/openapi":
					fmt.Fprint(w, test.document)
				case "/json":
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprint(w, `{"id": 1}`)
				case "/large", "/values", "/nests", "/number", "/null", "/tree", "/value":
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprint(w, map[string]string{
						"/large": "[" + strings.Repeat("1,", mostHeld/2) + "1]", "/values": "[" + strings.Repeat("1,", mostHeld/2-10) + "1]",
						"/nests": strings.Repeat("[", mostNested+1) + strings.Repeat("]", mostNested+1), "/number": "1e99999999",
						"/null": "null", "/tree": `{"of": [{"of": [1]}]}`, "/value": `{"pattern": "^(?=x)"}`,
					}[r.URL.Path])
				case "/stream":
					w.Header().Set("Content-Type", "text/event-stream")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				case "/closed":
					w.WriteHeader(http.StatusUnauthorized)
				default:
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			got := Run(t.Context(), Instance{URL: server.URL}, Suite{Contract: &Contract{Path: "/openapi", Must: true}})[0]
			if len(got.Reason) > 2000 {
				t.Errorf("the reason has %d bytes", len(got.Reason))
			}
			if got.Passed != test.passed || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// What nests is told from what is within strings, is one after the other, or has ended.
func TestWhatNestsInYAML(t *testing.T) {
	lists := strings.Repeat("[", mostNested) + strings.Repeat("]", mostNested)
	indented, dashes := strings.Builder{}, strings.Repeat("- ", mostNested)
	for i := range mostNested + 1 {
		fmt.Fprintf(&indented, "%*sa:\n", i, "")
	}
	for text, deep := range map[string]bool{
		lists: false, "[" + lists + "]": true, "- " + lists: true, `"` + lists + lists + `"`: false, "a: |\n  " + lists + lists + "\n": false, "# [" + lists: false,
		strings.Repeat("[[]], ", 200): false, strings.Repeat("a: [[]]\n", 200): false, strings.Repeat("- - a\n", 200): false,
		dashes + "a\n" + dashes + "a\n": false, dashes + "- a": true, strings.Repeat("? ", 101): true, strings.Repeat("{a: ", 51): true, indented.String(): true,
		strings.TrimSuffix(indented.String(), strings.Repeat(" ", mostNested)+"a:\n"): false,
	} {
		if err := scanned([]byte(text)); (err != nil) != deep {
			t.Errorf("%.40q…: %v", text, err)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func FuzzContract(f *testing.F) {
	f.Add(fmt.Sprintf(shopContract, "3.0.3", `, "nullable": true`), `{"id": 1}`)
	f.Add("openapi: 3.0.0\npaths: {/: {$ref: '#'}}", "")
	f.Fuzz(func(t *testing.T, text, body string) {
		d, err := openDocument(answer{status: 200, body: []byte(text)})
		if err != nil {
			return
		}
		all, _ := d.operations()
		for _, o := range all {
			_, _, _ = d.request(o)
			_ = d.check(t.Context(), o, answer{status: 200, header: http.Header{}, media: "application/json", body: []byte(body)})
		}
	})
}

// What holding an answer takes is given up when the time is over.
func TestContractGivesUp(t *testing.T) {
	d, err := openDocument(answer{status: http.StatusOK, body: []byte(`{"openapi": "3.1.0", "x-schema": {"type": "object"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // it may have been quicker
		if errors.Is(d.shaped(ctx, "/x-schema", answer{body: []byte("[]")}), context.Canceled) {
			return
		}
	}
	t.Error("it was not given up")
}

// What a failed test leaves says nothing of success.
func TestReasonOfAContractThatIsBroken(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi" {
			fmt.Fprint(w, `{"openapi": "3.1.0", "paths": {"/": {"get": {"responses": {"404": {}}}}}}`)
		}
	}))
	defer server.Close()
	r := Result{Values: map[string]float64{}}
	if err := contract(t.Context(), server.Client(), Instance{URL: server.URL}, Contract{Path: "/openapi"}, &r); err == nil || r.Reason != "" {
		t.Errorf("%v, %q", err, r.Reason)
	}
}

// A document may have more schemas than are read at once.
func TestContractOfManySchemas(t *testing.T) {
	large := `{"enum": [` + strings.Repeat("1,", mostNodes/2) + `2]}`
	d, err := openDocument(answer{status: http.StatusOK, body: fmt.Appendf(nil, `{"openapi": "3.1.0", "x-a": %s, "x-b": %s, "x-c": [%s, {"$ref": "#/x-a"}, {"$ref": "#/x-b"}]}`, large, large, large)})
	if err != nil {
		t.Fatal(err)
	}
	for _, pointer := range []string{"/x-a", "/x-b", "/x-c/0", "/x-a"} {
		if _, err := d.compile(pointer); err != nil || d.compiled.nodes > mostNodes {
			t.Errorf("%s: %v, %d nodes", pointer, err, d.compiled.nodes)
		}
	}
	if _, err := d.compile("/x-c"); !errors.Is(err, errLarge) {
		t.Error(err)
	}
}

// What patterns may take is for one schema, not for all that are compiled in turn.
func TestContractOfManyPatterns(t *testing.T) {
	text := strings.Builder{}
	const many = mostPatterns/10_000 + 20
	for i := range many {
		fmt.Fprintf(&text, `, "x-%d": {"pattern": "(%dabcdefghij){1000}"}`, i, i)
	}
	d, err := openDocument(answer{status: http.StatusOK, body: []byte(`{"openapi": "3.1.0"` + text.String() + "}")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range many {
		if _, err := d.compile(fmt.Sprintf("/x-%d", i)); err != nil {
			t.Fatalf("schema %d: %v", i, err)
		}
	}
}
