//go:build linux

package runtimetest

import (
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
		{name: "as it says", document: nullable, body: `{"id": 7, "name": null}`, passed: true, reason: "2 operations answer as /openapi.json says, 1 were not asked"},
		{name: "a newer version", document: fmt.Sprintf(shopContract, "3.1.0", ""), body: `{"id": 7, "name": null}`, reason: "/name"},
		{name: "YAML", document: "openapi: 3.0.0\npaths:\n  /api/hidden:\n    get:\n      responses:\n        '200': {description: fine}\n", hidden: 200, passed: true, reason: "1 operations"},
		{name: "a field is missing", document: nullable, body: `{"name": "x"}`, reason: "GET /api/things/7?lang=de: answers 200 with another body"},
		{name: "a field of another type", document: nullable, body: `{"id": "7"}`, reason: "/id"},
		{name: "no JSON", document: nullable, body: `oops`, reason: "a body that is no JSON"},
		{name: "another media type", document: nullable, body: `{"id": 7}`, media: "text/html", reason: `as "text/html", and it names application/json`},
		{name: "a status that is not named", document: nullable, body: `{"id": 7}`, status: 202, reason: "answers 202, and it names 200, 404"},
		{name: "one that is", document: nullable, status: 404, passed: true, reason: "2 operations"},
		{name: "broken", document: nullable, status: 500, reason: "answers 500"},
		{name: "a header is missing", document: nullable, body: `{"id": 7}`, media: "application/json; v=none", reason: "without the header ETag"},
		{name: "secured, and open", document: nullable, body: `{"id": 7}`, hidden: 302, reason: "GET /api/hidden: answers 302"},
		{name: "refs that are elsewhere", document: strings.Replace(nullable, "#/components/schemas/thing", "file:///etc/passwd", 1), body: `{"id": 7}`, reason: "its schema can not be read"},
		{name: "refs in a circle", document: strings.Replace(nullable, `"#/components/responses/thing"`, `"#/paths/~1things~1{id}/get/responses/200"`, 1), body: `{"id": 7}`, passed: true, reason: "2 operations"},
		{name: "none, which may be", none: true},
		{name: "none, which may not be", none: true, must: true, reason: "/openapi.json: it answers 404"},
		{name: "a page for everything", document: "<html>hello</html>"},
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

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func FuzzContract(f *testing.F) {
	f.Add(fmt.Sprintf(shopContract, "3.0.3", `, "nullable": true`), `{"id": 1}`)
	f.Add("openapi: 3.0.0\npaths: {/: {$ref: '#'}}", "")
	f.Fuzz(func(_ *testing.T, text, body string) {
		d, err := openDocument(answer{status: 200, body: []byte(text)})
		if err != nil {
			return
		}
		for _, o := range d.operations() {
			_, _, _ = d.request(o)
			_ = d.check(o, answer{200, http.Header{}, "application/json", []byte(body)})
		}
	})
}
