package main

import (
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

const asyncAPIVersion = "3.0.0"

// asyncAPI describes the doors: facts that an application receives, claims that it sends over NATS and over HTTP. Of
// the two sides of a channel it is Lemnis's: it sends facts and receives claims.
func asyncAPI(said comments) schema {
	channels, operations, messages, claimed := schema{}, schema{}, schema{}, schema{}
	for _, entry := range events.Catalogue() {
		name := entry.Type.Short()
		messages[name] = message(entry, said)
		phases := phasesOf(entry)
		if stated(entry) {
			channels["fact."+name] = channel(entry, string(events.Stated)+".{project}."+place(entry, phases)+".{key}", "Facts: "+name, phases, "project", "key")
			operations["send."+name] = operation("send", "fact."+name, name, "Lemnis says that it happened.")
		}
		if entry.Claimable {
			channels["claim."+name] = channel(entry, "submit.{principal}.{project}."+place(entry, phases), "Claims: "+name, phases, "principal", "project")
			operations["receive."+name] = operation("receive", "claim."+name, name, claimant(entry))
			claimed[name] = schema{"$ref": "#/components/messages/" + name}
		}
	}
	channels["http"] = schema{
		"address": "/events", "title": "Claims over HTTP", "messages": claimed, "servers": []schema{{"$ref": "#/servers/http"}},
		"description": "POST takes one event in CloudEvents binary or structured mode, or a batch of up to 1000, and answers for each.",
		"bindings":    schema{"http": schema{}},
	}
	operations["receive.http"] = schema{
		"action": "receive", "channel": schema{"$ref": "#/channels/http"}, "summary": "An event is claimed over HTTP.",
		"bindings": schema{"http": schema{"method": "POST", "bindingVersion": "0.3.0"}},
	}
	return schema{
		"asyncapi": asyncAPIVersion,
		"info": schema{
			"title": "Lemnis", "version": events.SpecVersion,
			"description": "The DevOps lifecycle as events: CDEvents in CloudEvents. An application receives facts, which the service that owns a phase states, and sends claims: what it says happened. A claim is answered by the fact, or by claim.refused with the reason; both name the claim's id as causationid.",
		},
		"defaultContentType": "application/json",
		"servers": schema{
			"nats": schema{"host": "127.0.0.1:4222", "protocol": "nats", "description": "The NATS server with JetStream; facts are kept on the stream LIFECYCLE."},
			"http": schema{"host": "127.0.0.1:8080", "protocol": "http", "description": "The gateway."},
		},
		"channels": channels, "operations": operations,
		"components": schema{
			"messages": messages, "parameters": parameters(),
			"schemas":       schema{"attributes": attributes()},
			"messageTraits": schema{"cloudevent": schema{"headers": schema{"$ref": "#/components/schemas/attributes"}, "contentType": "application/json"}},
		},
	}
}

// stated reports whether anyone states a fact of the type: the others are results, which a service tells itself, or
// claims that are for the audit only.
func stated(entry events.Entry) bool {
	switch entry.Zero().(type) {
	case events.OwnerElected, events.Understanding, events.DeadlineReached, events.TokenChanged, events.SubscriptionChanged,
		events.DeadLetterResent, events.RebuildRequested, events.RebuildReported:
		return false
	}
	return true
}

// phasesOf are the phases that a type may be stated in.
func phasesOf(entry events.Entry) []events.Phase {
	switch {
	case entry.Phase == "":
		return events.Phases()
	case strings.HasPrefix(entry.Type.Subject(), "test"):
		return []events.Phase{events.Integrate, events.Deploy}
	}
	return []events.Phase{entry.Phase}
}

// place is the part of a subject that says phase and type.
func place(entry events.Entry, phases []events.Phase) string {
	phase := "{phase}"
	if len(phases) == 1 {
		phase = string(phases[0])
	}
	return phase + "." + entry.Type.Subject() + "." + entry.Type.Predicate()
}

func channel(entry events.Entry, address, title string, phases []events.Phase, names ...string) schema {
	name := entry.Type.Short()
	of := schema{}
	for _, n := range names {
		of[n] = schema{"$ref": "#/components/parameters/" + n}
	}
	if len(phases) > 1 {
		of["phase"] = schema{"enum": phases, "description": "Phase that the event belongs to."}
	}
	return schema{
		"address": address, "title": title, "parameters": of, "servers": []schema{{"$ref": "#/servers/nats"}},
		"messages": schema{name: schema{"$ref": "#/components/messages/" + name}},
	}
}

func operation(action, channel, message, summary string) schema {
	return schema{
		"action": action, "channel": schema{"$ref": "#/channels/" + channel}, "summary": summary,
		"messages": []schema{{"$ref": "#/channels/" + channel + "/messages/" + message}},
	}
}

func claimant(entry events.Entry) string {
	if entry.Open {
		return "Anybody may claim it."
	}
	return "The outside owner of the phase may claim it."
}

func message(entry events.Entry, said comments) schema {
	m := schema{
		"name": string(entry.Type), "title": entry.Type.Short(), "contentType": "application/json",
		"payload": schema{"$ref": "./" + schemaFile(entry.Type)},
		"traits":  []schema{{"$ref": "#/components/messageTraits/cloudevent"}},
	}
	if c := said[contentName(entry)]; c != "" {
		m["summary"] = c
	}
	return m
}

func parameters() schema {
	return schema{
		"project":   schema{"description": "Project: 1 to 40 of a-z, 0-9 and '-'."},
		"principal": schema{"description": "Whose inbox it is: local for clients without credentials.", "default": "local"},
		"key":       schema{"description": "Key of the aggregate, escaped to one token. A live subscriber sees it; the stream stores its partition, 0 to 63, instead: subscribe with *."},
	}
}

// attributes are the headers of CloudEvents binary mode.
func attributes() schema {
	header := func(description string) schema { return schema{"type": "string", "description": description} }
	return schema{
		"type": "object", "description": "CloudEvents attributes in binary mode; values are percent-encoded.",
		"required": []string{"ce-specversion", "ce-id", "ce-source", "ce-type"},
		"properties": schema{
			"ce-specversion":    schema{"type": "string", "const": "1.0"},
			"ce-id":             header("As context.id."),
			"ce-source":         header("As context.source."),
			"ce-type":           header("As context.type."),
			"ce-time":           header("As context.timestamp."),
			"ce-subject":        header("As subject.id."),
			"ce-project":        header("Project that the event belongs to; of a claim it has to be there."),
			"ce-phase":          header("Phase; a function of the type but for tests."),
			"ce-key":            header("Key of the aggregate."),
			"ce-aggregate":      header("Kind of the aggregate that stated a fact."),
			"ce-principal":      header("Who was authenticated as its author; the gateway sets it."),
			"ce-causationid":    header("Id of the event that caused it."),
			"ce-chainid":        header("The turn of the loop that it is part of."),
			"ce-traceparent":    header("W3C trace context."),
			"ce-deadline":       header("When a timer that the fact sets is due, RFC 3339."),
			"content-type":      schema{"type": "string", "const": "application/json"},
			"ce-attempt":        header("Attempt of the effect that a result reports."),
			"ce-causesequence":  header("Sequence of a fact's cause on the stream."),
			"ce-configrevision": header("Revision of the project's configuration that a fact was decided under."),
		},
	}
}
