package project

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/lemnis/lemnis/pkg/events"
)

//go:generate go test -run ^TestSchemaIsUpToDate$ . -write

// note is what the Go types do not say of a field.
type note struct {
	text string
	enum []string
}

// notes describe every field, by its path without numbers.
var notes = map[string]note{
	"project":                         {text: "Name of the project: 1 to 40 of a-z, 0-9 and '-'."},
	"owners":                          {text: "Who does a phase: builtin, or the principal of an outside tool."},
	"repositories":                    {text: "Repositories of the project; each builds the service of its name."},
	"repositories[].name":             {text: "Name of the repository, and of the service that it builds."},
	"repositories[].url":              {text: "Where git finds it: https, http, ssh, git or file, or an absolute path."},
	"repositories[].branch":           {text: "The master copy; main when left out."},
	"repositories[].main":             {text: "Package that becomes the executable; found when left out."},
	"repositories[].credentials":      {text: "Name of a secret: secret:<name>."},
	"review":                          {text: "What a change needs before it may be integrated."},
	"review.approvals":                {text: "Approvals by others than the author."},
	"environments":                    {text: "Environments in order; each gate is at least as strict as the one before."},
	"environments[].name":             {text: "Name of the environment."},
	"environments[].target":           {text: "What artifacts run as.", enum: []string{"process"}},
	"environments[].strategy":         {text: "How users get a new version.", enum: []string{"all-at-once", "canary"}},
	"environments[].gate":             {text: "What an artifact has to prove before it enters."},
	"environments[].gate.tests":       {text: "The pipeline's tests.", enum: []string{"passed"}},
	"environments[].gate.coverage":    {text: "Percent of statements that tests cover, at least."},
	"environments[].gate.approvals":   {text: "Approvals of people other than the author."},
	"environments[].gate.soak":        {text: "Time in the environment before, at least."},
	"environments[].gate.runtime":     {text: "Runtime tests of the environment before.", enum: []string{"passed"}},
	"environments[].canary":           {text: "Bounds of a canary."},
	"environments[].canary.objective": {text: "Availability, 0 to 1; 0.999 when left out."},
	"environments[].canary.deadline":  {text: "When it is judged at the latest; 60m when left out."},
	"environments[].canary.tick":      {text: "Time between two looks; 1s when left out."},
	"environments[].runtime":          {text: "Tests of what runs in the environment."},
	"environments[].runtime.paths":    {text: "Paths that have to answer 2xx; /healthz when left out."},
	"environments[].runtime.p99":      {text: "Latency that 99 of 100 requests keep; 1s when left out."},
	"environments[].runtime.requests": {text: "Requests of the latency test; 50 when left out."},
	"environments[].runtime.licenses": {text: "SPDX ids that modules may have; the permissive ones when left out."},
	"environments[].runtime.headers":  {text: "Response headers that have to be there."},
	"objectives":                      {text: "What users may expect of the services."},
	"objectives[].service":            {text: "Name of the service."},
	"objectives[].availability":       {text: "Share of requests that succeed, like 99.9%."},
	"features":                        {text: "Parts of a service that users know by name."},
	"features[].name":                 {text: "Name of the feature."},
	"features[].service":              {text: "Service that it is part of."},
	"features[].path":                 {text: "Prefix of its URLs; probed as it stands."},
	"on-call":                         {text: "Who is told of incidents."},
	"on-call[].name":                  {text: "Name of the rota."},
	"on-call[].rotation":              {text: "How long one person is on duty; weekly when left out.", enum: []string{"daily", "weekly"}},
	"on-call[].people":                {text: "Who takes turns."},
	"on-call[].webhook":               {text: "Where alerts go: a URL, or secret:<name>."},
	"capacity":                        {text: "What a release may hold."},
	"capacity.points":                 {text: "Points of a release; 40 when left out."},
	"capacity.every":                  {text: "Plan a release this often; only when asked when left out."},
	"feedback":                        {text: "When feedback becomes work."},
	"feedback.users":                  {text: "Users that have to say the same; 2 when left out."},
	"mappings":                        {text: "Claims that are made of CloudEvents that are no CDEvents, by CEL expressions over id, source, type, subject, time, extensions and data. The first that takes an event counts."},
	"mappings[].when":                 {text: "Condition under which the mapping takes an event."},
	"mappings[].type":                 {text: "Type of the claim, like pipelinerun.finished."},
	"mappings[].subject":              {text: "Makes the id of what the claim is about."},
	"mappings[].chain":                {text: "Makes the id of the turn of the loop; a turn of its own when left out."},
	"mappings[].fields":               {text: "Make the fields of the content, by their path: lemnis.commit."},
	"mappings[].fields.*":             {text: "Makes the field."},
	"webhooks":                        {text: "Senders whose webhooks the gateway takes, each with the name of its secret: {secret: \"secret:<name>\"}."},
}

// Schema is the JSON Schema (2020-12) of a configuration, as indented JSON.
func Schema() ([]byte, error) {
	root := describe("", reflect.TypeFor[events.Project]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Configuration of a Lemnis project"
	root["required"] = []string{"project"} // every section has a default
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// keys are those that a mapping may have.
func keys(t reflect.Type) []string {
	var all []string
	switch t {
	case reflect.TypeFor[events.Phase]():
		for _, phase := range events.Phases() {
			all = append(all, string(phase))
		}
	case reflect.TypeFor[events.WebhookKind]():
		for _, kind := range events.WebhookKinds() {
			all = append(all, string(kind))
		}
	default:
		panic(fmt.Sprintf("project: nothing says which keys a mapping by %s may have", t))
	}
	return all
}

// describe is the schema of a type. JSON sorts the members, so the same types give the same bytes.
func describe(path string, t reflect.Type) map[string]any {
	out := map[string]any{}
	if n, ok := notes[path]; ok {
		out["description"] = n.text
		if n.enum != nil {
			out["enum"] = n.enum
		}
	}
	switch t {
	case reflect.TypeFor[events.Duration]():
		out["type"], out["examples"] = "string", []string{"300ms", "1h", "2w"}
		return out
	case reflect.TypeFor[events.Percent]():
		out["type"], out["pattern"] = "string", `^[0-9]+(\.[0-9]+)?%$`
		return out
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describe(path, t.Elem())
	case reflect.Struct:
		members, required := map[string]any{}, []string{}
		for _, f := range fields(t) {
			members[f.name] = describe(join(path, f.name), t.Field(f.index).Type)
			if !f.optional && t.Field(f.index).Type.Kind() == reflect.String {
				required = append(required, f.name)
			}
		}
		out["type"], out["properties"], out["additionalProperties"] = "object", members, false
		if len(required) > 0 {
			out["required"] = required
		}
	case reflect.Map:
		if t.Key() == reflect.TypeFor[string]() {
			out["type"], out["additionalProperties"] = "object", describe(path+".*", t.Elem())
			return out
		}
		members := map[string]any{}
		for _, key := range keys(t.Key()) {
			members[key] = describe(join(path, key), t.Elem())
		}
		out["type"], out["properties"], out["additionalProperties"] = "object", members, false
	case reflect.Slice:
		out["type"], out["items"] = "array", describe(path+"[]", t.Elem())
	case reflect.String:
		out["type"] = "string"
	case reflect.Float64:
		out["type"], out["minimum"] = "number", 0
	case reflect.Int:
		out["type"], out["minimum"] = "integer", 0
	default:
		panic(fmt.Sprintf("project: %s is of kind %s, which no configuration has", path, t.Kind()))
	}
	return out
}
