// Package project reads and writes a project's configuration as people write it: one YAML file, read by package document.
//
// A section that the file does not have keeps its default ([events.DefaultProject]).
//
// [Schema] is the JSON Schema of the file, for editors; it stands in project.schema.json:
//
//	# yaml-language-server: $schema=project.schema.json
package project
