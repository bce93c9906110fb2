package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/show"
	"github.com/lemnis/lemnis/pkg/events"
)

// patience is how long a command waits for the answer to a claim.
const patience = 10 * time.Second

// say claims a content about something.
func (f *flags) say(c *cobra.Command, output, about string, content any) error {
	project, err := f.needProject()
	if err != nil {
		return err
	}
	e, err := draft{typ: events.TypeOf(content), project: project, subject: about, source: "/lemnis/cli"}.event(nil)
	if err != nil {
		return err
	}
	e.Content = content
	return f.claim(c, e, output)
}

// claim hands an event in, waits for the answer and prints it; a refusal is the error.
func (f *flags) claim(c *cobra.Command, e events.Event, output string) error {
	client := f.client()
	defer client.Close()
	fact, err := client.Claim(c.Context(), e, patience)
	if err != nil {
		return err
	}
	if output == "json" {
		line, err := events.EncodeStructured(fact)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s\n", line)
		return nil
	}
	fmt.Fprintln(c.OutOrStdout(), show.Line(fact, time.Local))
	return nil
}
