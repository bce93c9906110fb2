// Package contract holds the event types in forms that other languages read: a JSON Schema (2020-12) for the body of
// each type, and an AsyncAPI 3 document of where events go in and out. Both are made from the Go types of package
// events; a gateway serves them at /schemas/ and /asyncapi.json.
package contract

import (
	"embed"

	"github.com/lemnis/lemnis/pkg/events"
)

//go:generate go run github.com/lemnis/lemnis/internal/cmd/contract

//go:embed asyncapi.json schemas/*.json
var files embed.FS

// Schema is the JSON Schema of an event's body, the CDEvent; false when the catalogue does not have the type.
func Schema(t events.Type) ([]byte, bool) {
	text, err := files.ReadFile("schemas/" + string(t) + ".json")
	return text, err == nil
}

// AsyncAPI is the AsyncAPI 3 document. It refers to the schemas as ./schemas/TYPE.json.
func AsyncAPI() []byte {
	text, err := files.ReadFile("asyncapi.json")
	if err != nil {
		panic("contract: " + err.Error()) // it is embedded
	}
	return text
}
