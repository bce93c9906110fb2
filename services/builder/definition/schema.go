package definition

import (
	"reflect"

	"github.com/lemnis/lemnis/internal/document"
	"github.com/lemnis/lemnis/pkg/events"
)

//go:generate go test -run ^TestSchemaIsUpToDate$ . -write

var schema = document.Schema{
	Title: "Pipeline of a Lemnis project: " + File, Required: []string{"steps"},
	Texts: map[reflect.Type]map[string]any{
		reflect.TypeFor[events.Duration](): {"examples": []string{"30s", "15m", "1h"}},
		reflect.TypeFor[Bytes]():           {"pattern": `^[0-9]+([KMG]i)?B$`, "examples": []string{"512MiB", "2GiB"}},
	},
	Notes: map[string]document.Note{
		"environment":                      {Text: "Variables of every step."},
		"environment.*":                    {Text: "Value of the variable."},
		"steps":                            {Text: "Scripts, in order: each comes after the one before it, unless it says what it needs."},
		"steps[].name":                     {Text: "Name of the step: 1 to 40 of a-z, 0-9 and '-'."},
		"steps[].run":                      {Text: "Script, for sh -e, at the root of the checkout."},
		"steps[].image":                    {Text: "Image that it runs in, also by variables of the matrix: golang:${GO}; on the host when left out."},
		"steps[].needs":                    {Text: "Steps that it comes after; [] lets it begin at once. The step before it when left out."},
		"steps[].when":                     {Text: "CEL condition over branch, change and paths; always when left out."},
		"steps[].matrix":                   {Text: "Variables with several values: a task for each combination."},
		"steps[].matrix.*":                 {Text: "Values of the variable."},
		"steps[].environment":              {Text: "Variables of the step."},
		"steps[].environment.*":            {Text: "Value of the variable."},
		"steps[].secrets":                  {Text: "Variables that hold a secret, masked in logs."},
		"steps[].secrets.*":                {Text: "Name of the secret: secret:<name>."},
		"steps[].services":                 {Text: "Containers that run beside the step."},
		"steps[].services[].name":          {Text: "Host name of the service."},
		"steps[].services[].image":         {Text: "Image of the service."},
		"steps[].services[].port":          {Text: "Port that it listens to when it can be used; by its image's health check or ports when left out."},
		"steps[].services[].environment":   {Text: "Variables of the service."},
		"steps[].services[].environment.*": {Text: "Value of the variable."},
		"steps[].inputs":                   {Text: "Patterns of the files that the result depends on: **, *, ?, {a,b}, [abc]; the whole checkout when left out."},
		"steps[].outputs":                  {Text: "Patterns of the files that later steps take from it."},
		"steps[].cache":                    {Text: "Folders that are kept from run to run."},
		"steps[].reports":                  {Text: "Files that the step leaves."},
		"steps[].reports.tests":            {Text: "Patterns of JUnit XML, go test -json or TAP."},
		"steps[].reports.coverage":         {Text: "Patterns of a Go profile, Cobertura or LCOV."},
		"steps[].timeout":                  {Text: "Time that it may take; 15m when left out."},
		"steps[].always":                   {Text: "Run it also when nothing that it depends on has changed: for what it does elsewhere."},
		"steps[].retries":                  {Text: "How often it is tried again when it fails; 0 to 10."},
		"steps[].network":                  {Text: "Whether it reaches the network; it does not when left out."},
		"steps[].limits":                   {Text: "What it may take of the machine."},
		"steps[].limits.cpu":               {Text: "Cores."},
		"steps[].limits.memory":            {Text: "Memory of all its processes."},
		"steps[].limits.processes":         {Text: "Processes at once."},
		"steps[].limits.output":            {Text: "What it may print."},
		"package":                          {Text: "What becomes the artifact: executable or dockerfile."},
		"package.executable":               {Text: "Path of the one file that a step makes."},
		"package.dockerfile":               {Text: "Path of the file that an image is built by."},
		"package.context":                  {Text: "Folder that the Dockerfile's COPY sees; the whole checkout when left out."},
		"package.target":                   {Text: "Stage that is packaged; the last when left out."},
		"package.args":                     {Text: "Values of the Dockerfile's ARG. They stand in the image: no secrets."},
		"package.args.*":                   {Text: "Value of the argument."},
		"package.network":                  {Text: "Whether the Dockerfile's RUN reaches the network; it does not when left out."},
		"package.timeout":                  {Text: "Time that the build may take; 15m when left out."},
		"package.limits":                   {Text: "What a RUN may take of the machine."},
		"package.limits.cpu":               {Text: "Cores."},
		"package.limits.memory":            {Text: "Memory of all its processes."},
		"package.limits.processes":         {Text: "Processes at once."},
		"package.limits.output":            {Text: "What the whole build may print."},
	},
}

// Schema is the JSON Schema (2020-12) of the file, as indented JSON.
func Schema() ([]byte, error) { return schema.Of(reflect.TypeFor[Pipeline]()) }
