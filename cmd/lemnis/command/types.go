package command

import (
	"encoding/json"
	"fmt"
	"reflect"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/contract"
)

func newTypes() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "types [TYPE]", Short: "List the catalogue of event types, or show one: its fields, or its JSON Schema",
		Long: "List the catalogue of event types, their phases, and who may claim them; of one type, the fields of its content, which are\n" +
			"the flags of `lemnis events publish TYPE`, or, with --output schema, the JSON Schema of the event's body.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("%s: %q is too much; write: %s", c.CommandPath(), args[1], c.UseLine())
			}
			return nil
		},
		ValidArgsFunction: completeType,
		RunE: func(c *cobra.Command, args []string) error {
			if output != "text" && output != "json" && output != "schema" {
				return usage("--output %q: it may be text, json or schema", output)
			}
			if len(args) == 1 {
				return showType(c, args[0], output)
			}
			switch output {
			case "schema":
				return usage("the schema of which type? write: lemnis events types TYPE --output schema")
			case "json":
				return typesAsJSON(c)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PHASE\tSHORT\tWHO MAY CLAIM IT\tTYPE")
			for _, p := range append(events.Phases(), "") {
				for _, e := range events.Catalogue() {
					if e.Phase == p {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", phaseName(p), e.Type.Short(), claimant(e), e.Type)
					}
				}
			}
			return w.Flush()
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text, json or, of one type, schema")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "schema"}, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
	return c
}

// completeType offers the short names of types.
func completeType(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, e := range events.Catalogue() {
		names = append(names, cobra.CompletionWithDesc(e.Type.Short(), phaseName(e.Phase)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func showType(c *cobra.Command, name, output string) error {
	t, err := events.ParseType(name)
	if err != nil {
		return usage("%v%s", err, nearestType(name))
	}
	entry, _ := events.Lookup(t)
	switch output {
	case "schema":
		text, _ := contract.Schema(t)
		_, err := c.OutOrStdout().Write(text)
		return err
	case "json":
		return json.NewEncoder(c.OutOrStdout()).Encode(row(entry))
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "type:\t%s\nphase:\t%s\nclaimed by:\t%s\n", t, phaseName(entry.Phase), claimant(entry))
	if err := w.Flush(); err != nil {
		return err
	}
	if fields := contentFields(reflect.TypeOf(entry.Zero())); len(fields) > 0 {
		fmt.Fprintln(w, "\nFIELD\tVALUE\t")
		for _, f := range fields {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.path, f.kind(), describe(f))
		}
	}
	return w.Flush()
}

func phaseName(p events.Phase) string {
	if p == "" {
		return "any"
	}
	return string(p)
}

func claimant(e events.Entry) string {
	switch {
	case !e.Claimable:
		return "nobody: a service says it"
	case e.Open:
		return "anybody"
	}
	return "whoever owns the phase"
}

// row is a type of the catalogue in JSON.
func row(e events.Entry) map[string]any {
	return map[string]any{"type": e.Type, "short": e.Type.Short(), "phase": phaseName(e.Phase), "claimedBy": claimant(e)}
}

func typesAsJSON(c *cobra.Command) error {
	encoder := json.NewEncoder(c.OutOrStdout())
	for _, e := range events.Catalogue() {
		if err := encoder.Encode(row(e)); err != nil {
			return err
		}
	}
	return nil
}

func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "text", "text or json")
}

func outputIs(output string) error {
	if output != "text" && output != "json" {
		return usage("--output %q: it may be text or json", output)
	}
	return nil
}
