// Package project reads and writes a project's configuration as people write it: one YAML file.
//
// Parse is strict: a field that does not exist is refused, with the nearest one that does; a value of the wrong kind
// is refused, never bent. Every error names file, line, column and field, and all of them are told at once:
//
//	project.yaml:7:14: environments[1].gate.coverage: is 60, weaker than the 70 of dev before it: …
//
// A section that the file does not have keeps its default ([events.DefaultProject]). Anchors, aliases and tags are
// refused: a configuration says everything once, and a file from outside must not unfold into a thousand times its size.
//
// [Schema] is the JSON Schema of the file, for editors; it stands in project.schema.json:
//
//	# yaml-language-server: $schema=project.schema.json
package project
