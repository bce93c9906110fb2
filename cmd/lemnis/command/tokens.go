package command

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/services/gateway/access"
)

func newTokens(f *flags) *cobra.Command {
	return group(&cobra.Command{Use: "tokens", Short: "Who may do what at the gateway"},
		newTokenCreate(f), newTokenList(f), newTokenRotate(f), newTokenRevoke(f))
}

func newTokenCreate(f *flags) *cobra.Command {
	var scopes []string
	var expires, output string
	c := &cobra.Command{
		Use: "create NAME --scope SCOPE…", Short: "Make a token; its text is shown this once", Args: exactly("NAME"),
		Long: "Make a token. Its name is the principal that its claims carry; its text is shown this once, and kept nowhere.\n\n" +
			"Scopes: publish:PHASE@PROJECT, read@PROJECT, decide:ENVIRONMENT@PROJECT, admin@PROJECT, admin. * stands for any.",
		Example: "  lemnis tokens create jenkins --scope publish:integrate@shop --scope read@shop --expires 90d",
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			if err := access.CheckName(args[0]); err != nil {
				return usage("%v", err)
			}
			if _, err := access.ParseScopes(scopes); err != nil {
				return usage("--scope: %v", err)
			}
			var at time.Time
			if expires != "" {
				lasts, err := parseAge(expires)
				if err != nil {
					return usage("--expires: %v", err)
				}
				at = time.Now().Add(lasts)
			}
			client := f.client()
			defer client.Close()
			t, err := client.CreateToken(c.Context(), args[0], scopes, at)
			if err != nil {
				return err
			}
			return showToken(c, output, t)
		},
	}
	c.Flags().StringArrayVar(&scopes, "scope", nil, "what it may do; may be given several times")
	c.Flags().StringVar(&expires, "expires", "", "how long it is good, like 90d or 12h; for ever without it")
	outputFlag(c, &output)
	return c
}

func newTokenList(f *flags) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "list", Short: "List tokens, without their texts", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			client := f.client()
			defer client.Close()
			raw, tokens, err := client.Tokens(c.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c, raw)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tSCOPES\tCREATED\tEXPIRES\tOLD SECRET UNTIL")
			for _, t := range tokens {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Name, strings.Join(t.Scopes, " "), day(&t.Created), day(t.Expires), day(t.OldUntil))
			}
			return w.Flush()
		},
	}
	outputFlag(c, &output)
	return c
}

func newTokenRotate(f *flags) *cobra.Command {
	grace, output := "24h", ""
	c := &cobra.Command{
		Use: "rotate NAME", Short: "Give a token another text; the one of before stays good for a while", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			lasts, err := parseAge(grace)
			if err != nil {
				return usage("--grace: %v", err)
			}
			client := f.client()
			defer client.Close()
			t, err := client.RotateToken(c.Context(), args[0], lasts)
			if err != nil {
				return err
			}
			return showToken(c, output, t)
		},
	}
	c.Flags().StringVar(&grace, "grace", grace, "how long the old text stays good, like 24h or 7d; 0s ends it at once")
	outputFlag(c, &output)
	return c
}

func newTokenRevoke(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "End a token at once", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			client := f.client()
			defer client.Close()
			if err := client.RevokeToken(c.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is revoked\n", args[0])
			return nil
		},
	}
}

// showToken prints the text alone on standard output, so that a script can keep it; the rest is for people.
func showToken(c *cobra.Command, output string, t api.NewToken) error {
	if output == "json" {
		return printJSON(c, t.Raw)
	}
	fmt.Fprintln(c.OutOrStdout(), t.Text)
	line := fmt.Sprintf("%s may %s", t.Name, strings.Join(t.Scopes, ", "))
	if t.Expires != nil {
		line += ", until " + day(t.Expires)
	}
	if t.OldUntil != nil {
		line += "; the text of before is good until " + day(t.OldUntil)
	}
	fmt.Fprintln(c.ErrOrStderr(), line+". The text is shown this once.")
	return nil
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// parseAge reads a duration, which may be in days.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("%q is no number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time like 90d or 12h", text)
	}
	return d, nil
}
