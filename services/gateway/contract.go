package gateway

import (
	"net/http"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/contract"
)

// showAsyncAPI answers with the AsyncAPI document. Its references to schemas lead to showSchema.
func (g *Gateway) showAsyncAPI(w http.ResponseWriter, _ *http.Request) {
	showContract(w, "application/vnd.aai.asyncapi+json;version=3.0.0", contract.AsyncAPI())
}

// showSchema answers with the JSON Schema of a type, by its full or its short name, with or without .json.
func (g *Gateway) showSchema(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSuffix(r.PathValue("type"), ".json")
	t, err := events.ParseType(name)
	if err != nil {
		g.fail(w, r, refuse(http.StatusNotFound, "there is no schema of %s; GET /schemas/ lists the types", quote(name)))
		return
	}
	text, _ := contract.Schema(t)
	showContract(w, "application/schema+json", text)
}

// listSchemas answers with the types and the addresses of their schemas.
func (g *Gateway) listSchemas(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		Type   events.Type `json:"type"`
		Short  string      `json:"short"`
		Schema string      `json:"schema"`
	}
	rows := []row{}
	for _, e := range events.Catalogue() {
		rows = append(rows, row{e.Type, e.Type.Short(), "/schemas/" + string(e.Type) + ".json"})
	}
	g.write(w, http.StatusOK, "application/json", map[string]any{"schemas": rows})
}

func showContract(w http.ResponseWriter, contentType string, text []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "public, max-age=300") // it changes with the program only
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(text) //nolint:gosec // generated text of its own; a client that went away is told nothing
}
