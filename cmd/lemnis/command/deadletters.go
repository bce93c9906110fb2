package command

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
)

func newDeadLetters(f *flags) *cobra.Command {
	one := &cobra.Command{
		Use: "show SEQUENCE", Short: "Show one of them whole", Args: exactly("SEQUENCE"),
		RunE: func(c *cobra.Command, args []string) error {
			letter, err := f.client().DeadLetter(c.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(c, letter)
		},
	}
	return group(&cobra.Command{Use: "deadletters", Short: "What could not be handled"}, newDeadLetterList(f), one, newDeadLetterResend(f))
}

// letterFlags say which dead letters are meant.
type letterFlags struct{ id, typ, since string }

func (l *letterFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&l.id, "id", "", "those of the event with this id")
	c.Flags().StringVar(&l.typ, "type", "", "those of this type, such as change.merged")
	c.Flags().StringVar(&l.since, "since", "", "those since then: a duration, such as 1h, or a time as in RFC 3339")
	_ = c.RegisterFlagCompletionFunc("type", completeType) // fails for an unknown flag only
}

func (l *letterFlags) query(f *flags) api.DeadLetterQuery {
	return api.DeadLetterQuery{Project: f.project, ID: l.id, Type: l.typ, Since: l.since}
}

func newDeadLetterList(f *flags) *cobra.Command {
	var which letterFlags
	var output string
	c := &cobra.Command{
		Use: "list", Short: "List what failed for good, with the reason, how often it was tried and what caused it", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			all, err := f.client().DeadLetters(c.Context(), which.query(f))
			if err != nil {
				return err
			}
			if output == "json" {
				text, err := json.Marshal(map[string][]json.RawMessage{"deadletters": all})
				if err != nil {
					return err
				}
				return printJSON(c, text)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SEQUENCE\tPROJECT\tWHERE\tTYPE\tREASON")
			for _, raw := range all {
				var l api.DeadLetter
				if err := json.Unmarshal(raw, &l); err != nil {
					return fmt.Errorf("a dead letter is no JSON that is understood: %w", err)
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", l.Sequence, l.Project, l.Where, l.Type, strings.Join(strings.Fields(l.Reason), " "))
			}
			return w.Flush()
		},
	}
	which.add(c)
	outputFlag(c, &output)
	return c
}

func newDeadLetterResend(f *flags) *cobra.Command {
	var which letterFlags
	var dry, again bool
	c := &cobra.Command{
		Use: "resend [SEQUENCE…]", Short: "Send what failed for good again, each once",
		Long: "Send dead letters again: those with the given sequences, or all that --id, --type, --since and --project let through.\n\n" +
			"Each goes the way that it came, as a new message that names it: to the aggregate, the effect or the subscription that it\n" +
			"failed for, or through the checks of the inbox that it was submitted to. It is sent again once, however often this is\n" +
			"asked for; --again sends it another time.",
		Example: "  lemnis deadletters resend 17\n  lemnis deadletters resend --type change.merged --since 1h --dry-run",
		RunE: func(c *cobra.Command, args []string) error {
			letters, err := f.lettersToResend(c, args, which)
			if err != nil {
				return err
			}
			return f.resend(c, letters, dry, again)
		},
	}
	which.add(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be sent again")
	c.Flags().BoolVar(&again, "again", false, "also what was sent again before")
	return c
}

// lettersToResend finds what is meant.
func (f *flags) lettersToResend(c *cobra.Command, args []string, which letterFlags) ([]api.DeadLetter, error) {
	if len(args) > 0 && which != (letterFlags{}) {
		return nil, usage("%s takes sequences, or --id, --type and --since; not both", c.CommandPath())
	}
	if len(args) == 0 && which == (letterFlags{}) {
		return nil, usage("%s: which? Give sequences, or --id, --type or --since", c.CommandPath())
	}
	var raw []json.RawMessage
	for _, sequence := range args {
		if _, err := strconv.ParseUint(sequence, 10, 63); err != nil {
			return nil, usage("%q is no sequence; `lemnis deadletters list` shows them", sequence)
		}
		letter, err := f.client().DeadLetter(c.Context(), sequence)
		if err != nil {
			return nil, err
		}
		raw = append(raw, letter)
	}
	if len(args) == 0 {
		var err error
		if raw, err = f.client().DeadLetters(c.Context(), which.query(f)); err != nil {
			return nil, err
		}
	}
	letters := make([]api.DeadLetter, len(raw))
	for i, text := range raw {
		if err := json.Unmarshal(text, &letters[i]); err != nil {
			return nil, fmt.Errorf("a dead letter is not understood: %w", err)
		}
	}
	return letters, nil
}

// resend sends dead letters again, goes on when one can not be, and says so for each.
func (f *flags) resend(c *cobra.Command, letters []api.DeadLetter, dry, again bool) error {
	name := ""
	if again {
		name = rand.Text()
	}
	sent, already, failed := 0, 0, 0
	for _, l := range letters {
		what := fmt.Sprintf("%d %s of %s (%s)", l.Sequence, cmp.Or(l.Type, "of no type"), cmp.Or(l.Project, "no project"), l.Where)
		if dry {
			fmt.Fprintf(c.OutOrStdout(), "%s would be sent again; it failed: %s\n", what, l.Reason)
			continue
		}
		done, err := f.client().Resend(c.Context(), strconv.FormatUint(l.Sequence, 10), name)
		switch {
		case err != nil:
			failed++
			fmt.Fprintf(c.ErrOrStderr(), "%s: %v\n", what, err)
		case done.Already:
			already++
			fmt.Fprintf(c.OutOrStdout(), "%s was sent again before, at %d; --again sends it another time\n", what, done.Sequence)
		default:
			sent++
			fmt.Fprintf(c.OutOrStdout(), "%s is sent again, at %d\n", what, done.Sequence)
		}
	}
	if dry {
		return nil
	}
	fmt.Fprintf(c.OutOrStdout(), "%d sent again, %d before, %d can not be\n", sent, already, failed)
	if failed > 0 {
		return fmt.Errorf("%d of %d dead letters could not be sent again", failed, len(letters))
	}
	return nil
}
