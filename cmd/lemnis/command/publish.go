package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// publication is what the flags that all types have say.
type publication struct {
	draft  draft
	links  []string
	sets   []string
	file   string
	output string
	dry    bool
}

// newPublish has a command for each type, so that each has the flags of its own fields, shows them in its help, and completes
// them.
func newPublish(f *flags) *cobra.Command {
	c := &cobra.Command{
		Use: "publish TYPE --id SUBJECT", Short: "Claim that something happened",
		Long: "Claim that something happened, and wait for the fact or for the refusal. Each type has a flag for each field of its content,\n" +
			"nested by dots; what Lemnis adds to a standard type stands under lemnis: `lemnis events publish TYPE --help` lists them.\n" +
			"The content is also taken from --data FILE (JSON, with a member \"lemnis\"; - reads standard input) and --set, which flags add to.",
		Example: "  lemnis events publish change.reviewed --project shop --id 42 --lemnis.reviewer ann --lemnis.verdict approved\n" +
			"  lemnis events publish ticket.created --project shop --id T-1 --data ticket.json --labels search --dry-run",
	}
	var p publication
	flags := c.PersistentFlags()
	flags.StringVar(&p.draft.subject, "id", "", "what it is about: the ticket's, the change's, the incident's id; made up when left out")
	flags.StringVar(&p.draft.chain, "chain", "", "turn of the loop that it belongs to; a new one without it")
	flags.StringArrayVar(&p.links, "link", nil, "other event that it is tied to: ID or path:ID is its cause, end:ID ends a chain, KIND:ID (TRIGGER:…) is a relation")
	flags.StringVar(&p.draft.id, "event-id", "", "id of the event, so that sending it again changes nothing; made up when left out")
	flags.StringVar(&p.draft.source, "source", "/lemnis/cli", "who says it, a URI reference")
	flags.StringArrayVar(&p.sets, "set", nil, "PATH=VALUE within the content; VALUE is JSON, or else text")
	flags.StringVar(&p.file, "data", "", "file with the content as JSON; - is standard input")
	flags.BoolVar(&p.dry, "dry-run", false, "print the event and send nothing")
	flags.StringVarP(&p.output, "output", "o", "text", "text or json")
	var types []*cobra.Command
	for _, entry := range events.Catalogue() {
		one := newPublishType(f, &p, entry)
		if !c.ContainsGroup(one.GroupID) && !one.Hidden {
			c.AddGroup(&cobra.Group{ID: one.GroupID, Title: "Phase " + one.GroupID + ":"})
		}
		types = append(types, one)
	}
	group(c, types...)
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		_, err := events.ParseType(args[0])
		return usage("%v%s", err, nearestType(args[0]))
	}
	return c
}

func newPublishType(f *flags, p *publication, entry events.Entry) *cobra.Command {
	name := entry.Type.Short()
	var said []func(map[string]any) error
	c := &cobra.Command{
		Use: name, Aliases: []string{string(entry.Type)}, GroupID: phaseName(entry.Phase), Hidden: !entry.Claimable,
		Short: "claimed by " + claimant(entry), Args: exactly(), Annotations: map[string]string{publishes: string(entry.Type)},
		RunE: func(c *cobra.Command, _ []string) error { return p.publish(f, c, entry.Type, said) },
	}
	if !entry.Claimable {
		c.GroupID = ""
		return c
	}
	for _, one := range contentFields(reflect.TypeOf(entry.Zero())) {
		c.Flags().Var(&fieldFlag{field: one, into: &said}, flagName(one.path), describe(one))
		if len(one.values) > 0 {
			_ = c.RegisterFlagCompletionFunc(flagName(one.path), cobra.FixedCompletions(one.values, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
		}
	}
	return c
}

// publishes is the annotation of a command that names the type which it claims.
const publishes = "lemnis-type"

// flagName is the path, but for fields that are called as a flag of all types is.
func flagName(path string) string {
	first, _, _ := strings.Cut(path, ".")
	switch first {
	case "id", "chain", "link", "event-id", "source", "set", "data", "dry-run", "output", "project", "server", "help":
		return "content." + path
	}
	return path
}

func describe(f field) string {
	var notes []string
	if len(f.values) > 0 {
		notes = append(notes, strings.Join(f.values, ", "))
	}
	if f.required {
		notes = append(notes, "required")
	}
	if f.repeated() {
		notes = append(notes, "may be repeated")
	}
	return strings.Join(notes, "; ")
}

func (p *publication) publish(f *flags, c *cobra.Command, t events.Type, said []func(map[string]any) error) error {
	if err := outputIs(p.output); err != nil {
		return err
	}
	project, err := f.needProject()
	if err != nil {
		return err
	}
	p.draft.project, p.draft.typ = project, t
	content := map[string]any{}
	if p.file != "" {
		if content, err = readContent(c, p.file); err != nil {
			return err
		}
	}
	for _, s := range p.sets {
		if err := set(content, s); err != nil {
			return err
		}
	}
	for _, put := range said {
		if err := put(content); err != nil {
			return err
		}
	}
	e, err := p.draft.event(content)
	if err != nil {
		return err
	}
	for _, l := range p.links {
		link, err := parseLink(l)
		if err != nil {
			return err
		}
		e.Links = append(e.Links, link)
	}
	body, err := e.AppendBody(nil)
	if err != nil {
		return err
	}
	if err := schema.Validate(body); err != nil {
		return usage("%s: %v", t.Short(), err)
	}
	if p.dry {
		return printEvent(c.OutOrStdout(), e)
	}
	return f.claim(c, e, p.output)
}

// printEvent shows an event as it would be sent.
func printEvent(w io.Writer, e events.Event) error {
	line, err := events.EncodeStructured(e)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, line, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, pretty.String())
	return err
}

// parseLink reads ID, path:ID, end:ID or KIND:ID. An id may have colons itself, and then needs the word before it only when
// it begins with capitals.
func parseLink(text string) (events.Link, error) {
	word, id, ok := strings.Cut(text, ":")
	l := events.Link{Type: events.Path, Context: text}
	switch {
	case ok && word == "path":
		l.Context = id
	case ok && word == "end":
		l.Type, l.Context = events.End, id
	case ok && word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "":
		l.Type, l.Kind, l.Context = events.Relation, word, id
	}
	if l.Context == "" {
		return l, usage("--link %q: it names no event; write ID, path:ID, end:ID or KIND:ID", text)
	}
	return l, nil
}

func nearestType(name string) string {
	var names []string
	for _, e := range events.Catalogue() {
		names = append(names, e.Type.Short())
	}
	return didYouMean(name, names)
}

func readContent(c *cobra.Command, file string) (map[string]any, error) {
	var content map[string]any
	in := c.InOrStdin()
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
		defer func() { _ = opened.Close() }()
		in = opened
	}
	decoder := json.NewDecoder(in)
	decoder.UseNumber()
	if err := decoder.Decode(&content); err != nil {
		return nil, usage("--data %s: it has to hold one JSON object: %v", file, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, usage("--data %s: it has to hold one JSON object, and nothing behind it", file)
	}
	if content == nil {
		content = map[string]any{}
	}
	return content, nil
}

// set puts one PATH=VALUE into the content.
func set(content map[string]any, assignment string) error {
	path, text, ok := strings.Cut(assignment, "=")
	if !ok || path == "" {
		return usage("--set %q: write PATH=VALUE, like lemnis.verdict=approved", assignment)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if !json.Valid([]byte(text)) || decoder.Decode(&value) != nil {
		value = text
	}
	holder, last, err := within(content, path)
	if err != nil {
		return usage("--set %s: %v", path, err)
	}
	holder[last] = value
	return nil
}
