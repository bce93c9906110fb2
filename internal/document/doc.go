// Package document reads the files that people write: one YAML document into one Go struct, strictly.
//
// A field that does not exist is refused, with the nearest one that does; a value of the wrong kind is refused, never bent.
// Every error names file, line, column and field, and all of them are told at once:
//
//	project.yaml:7:14: environments[1].gate.coverage: is 60, weaker than the 70 of dev before it: …
//
// Anchors, aliases and tags are refused: a file says everything once, and one from outside must not unfold into a thousand
// times its size. [Schema] makes the JSON Schema of the same types, for editors.
package document
