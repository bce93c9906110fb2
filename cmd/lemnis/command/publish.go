package command

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/pkg/events"
)

func newPublish(f *flags) *cobra.Command {
	var d draft
	var sets []string
	var file, output string
	c := &cobra.Command{
		Use: "publish TYPE --id SUBJECT", Short: "Claim that something happened", Args: exactly("TYPE"),
		Long: "Claim that something happened, and wait for the fact or for the refusal. The content is given by --set, by --data FILE\n" +
			"(JSON, with a member \"lemnis\" for what Lemnis adds to a standard type; - reads standard input), or by both.",
		Example: "  lemnis events publish change.reviewed --project shop --id 42 --set lemnis.reviewer=ann --set lemnis.verdict=approved\n" +
			"  lemnis events publish ticket.created --project shop --id T-1 --data ticket.json",
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			project, err := f.needProject()
			if err != nil {
				return err
			}
			d.project = project
			if d.typ, err = events.ParseType(args[0]); err != nil {
				return usage("%v%s", err, nearestType(args[0]))
			}
			content := map[string]any{}
			if file != "" {
				if content, err = readContent(c, file); err != nil {
					return err
				}
			}
			for _, s := range sets {
				if err := set(content, s); err != nil {
					return err
				}
			}
			e, err := d.event(content)
			if err != nil {
				return err
			}
			return f.claim(c, e, output)
		},
	}
	c.Flags().StringVar(&d.subject, "id", "", "what it is about: the ticket's, the change's, the incident's id; made up when left out")
	c.Flags().StringVar(&d.chain, "chain", "", "turn of the loop that it belongs to; a new one without it")
	c.Flags().StringVar(&d.id, "event-id", "", "id of the event, so that sending it again changes nothing; made up when left out")
	c.Flags().StringVar(&d.source, "source", "/lemnis/cli", "who says it, a URI reference")
	c.Flags().StringArrayVar(&sets, "set", nil, "PATH=VALUE within the content; VALUE is JSON, or else text")
	c.Flags().StringVar(&file, "data", "", "file with the content as JSON")
	outputFlag(c, &output)
	return c
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
	if err := json.NewDecoder(in).Decode(&content); err != nil {
		return nil, fmt.Errorf("--data %s: it has to hold one JSON object: %w", file, err)
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
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		value = text
	}
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := content[name].(map[string]any)
		if !ok {
			if content[name] != nil {
				return usage("--set %s: %s has a value already that holds no fields", path, name)
			}
			inner = map[string]any{}
			content[name] = inner
		}
		content = inner
	}
	content[names[len(names)-1]] = value
	return nil
}
