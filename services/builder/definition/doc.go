// Package definition says what a project's pipeline consists of: read from its .lemnis.yaml, detected from what its
// checkout holds, or imported from another tool's file.
//
//	p, err := definition.Load(root.FS(), "")   // of a checkout: the file, or what was detected
//	tasks, err := p.Tasks(ctx, definition.Occasion{Branch: "main"})
//
// A pipeline is a graph of steps, each a shell script on the host or in an image. A step that says nothing of what it
// needs comes after the one before it; `needs: []` lets it begin at once. A matrix makes several tasks of one step.
// [Pipeline.Tasks] is what is to be run, in an order in which each comes after what it needs; package pipeline runs it.
package definition
