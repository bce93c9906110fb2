// Package mapping makes claims of CloudEvents that are no CDEvents, as a project's configuration says. A mapping is made of
// CEL expressions over the event: id, source, type, subject and time are its attributes as text, extensions a map of the
// others, data what it carries, as JSON.
//
//	mappings:
//	  - when: type == "com.acme.build.done"
//	    type: pipelinerun.finished
//	    subject: string(data.run)
//	    fields: {pipelineName: data.job, outcome: 'data.ok ? "success" : "failure"'}
//
// Compile finds what is wrong before any event comes: an expression that is none, with line and column in it, a field that the
// type does not have, a value of another kind. What an expression may cost is bounded; what it makes is judged by the type's
// schema, as every claim is.
package mapping
