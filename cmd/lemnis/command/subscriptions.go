package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

func newSubscriptions(f *flags) *cobra.Command {
	one := &cobra.Command{
		Use: "show ID", Short: "Show one: progress, lag, last error", Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			client := f.client()
			defer client.Close()
			raw, err := client.Subscription(c.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(c, raw)
		},
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "End a subscription", Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			client := f.client()
			defer client.Close()
			if err := client.Unsubscribe(c.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is removed\n", args[0])
			return nil
		},
	}
	return group(&cobra.Command{Use: "subscriptions", Short: "Have facts pushed to a URL, or kept for a NATS client"}, newSubscribe(f), newSubscriptionList(f), one, remove)
}

func newSubscriptionList(f *flags) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "list", Short: "List them, with how each fares", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			client := f.client()
			defer client.Close()
			raw, all, err := client.Subscriptions(c.Context(), f.project)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c, raw)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tPROJECT\tTO\tSTATE\tBEHIND\tLAST ERROR")
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", s.ID, s.Config.Project, cmp.Or(s.Sink, s.Status.Consumer), s.Status.State, s.Status.Lag, cmp.Or(s.Status.Reason, s.Status.LastError))
			}
			return w.Flush()
		},
	}
	outputFlag(c, &output)
	return c
}

// asked are the flags of `subscriptions add`.
type asked struct {
	sink, nats, start, mode, secret, source string
	types, filters, cel, headers            []string
	wait                                    time.Duration
}

func newSubscribe(f *flags) *cobra.Command {
	var a asked
	c := &cobra.Command{
		Use: "add", Short: "Subscribe: --sink URL, or --nats NAME", Args: exactly(),
		Example: `  lemnis subscriptions add --sink https://example.org/hook --project shop --type change.merged --filter 'key^=4'
  lemnis subscriptions add --nats chat --project shop --start all`,
		RunE: func(c *cobra.Command, _ []string) error {
			project, err := f.needProject()
			if err != nil {
				return err
			}
			s, err := a.subscription(project)
			if err != nil {
				return err
			}
			client := f.client()
			defer client.Close()
			made, err := client.Subscribe(c.Context(), s)
			if err != nil {
				return err
			}
			return report(c, client, made, a.wait)
		},
	}
	v := c.Flags()
	v.StringVar(&a.sink, "sink", "", "URL that facts are pushed to")
	v.StringVar(&a.nats, "nats", "", "name of a durable consumer to make for a NATS client")
	v.StringArrayVar(&a.types, "type", nil, "type of fact, short or full; may be repeated")
	v.StringVar(&a.source, "source", "", "source that facts have to have")
	v.StringArrayVar(&a.filters, "filter", nil, "ATTRIBUTE=VALUE, !=, ^= (begins with), $= (ends with), or a filter as JSON; all have to match")
	v.StringArrayVar(&a.cel, "cel", nil, "CEL expression over the attributes and data; all have to match")
	v.StringArrayVar(&a.headers, "header", nil, "NAME=VALUE to send along; may be repeated")
	v.StringVar(&a.start, "start", "new", "new, all, or a sequence")
	v.StringVar(&a.mode, "mode", "", "binary (default) or structured")
	v.StringVar(&a.secret, "secret", "", "secret:<name> that the gateway's operator keeps; without it one is generated")
	v.DurationVar(&a.wait, "wait", 5*time.Second, "how long to wait for the sink's consent")
	return c
}

func (a asked) subscription(project string) (api.Subscription, error) {
	s := api.Subscription{
		Protocol: "HTTP", Sink: a.sink, Source: a.source, Config: api.SubscriptionConfig{Project: project, Start: a.start, Secret: a.secret},
		Settings: api.SubscriptionSettings{ContentMode: a.mode},
	}
	switch {
	case (a.sink == "") == (a.nats == ""):
		return s, usage("say either --sink URL or --nats NAME")
	case a.nats != "":
		s.Protocol, s.Settings.Consumer = "NATS", a.nats
	}
	for _, name := range a.types {
		t, err := events.ParseType(name)
		if err != nil {
			return s, usage("--type: %v%s", err, nearestType(name))
		}
		s.Types = append(s.Types, string(t))
	}
	for _, text := range a.filters {
		one, err := filterOf(text)
		if err != nil {
			return s, err
		}
		s.Filters = append(s.Filters, one)
	}
	for _, expression := range a.cel {
		one, err := json.Marshal(map[string]string{"cel": expression})
		if err != nil {
			return s, err
		}
		s.Filters = append(s.Filters, one)
	}
	for _, header := range a.headers {
		name, value, ok := strings.Cut(header, "=")
		if !ok {
			return s, usage("--header %q is no NAME=VALUE", name) // without what may be a secret
		}
		if s.Settings.Headers == nil {
			s.Settings.Headers = map[string]string{}
		}
		s.Settings.Headers[name] = value
	}
	return s, nil
}

// filterOf reads a filter as people write it.
func filterOf(text string) (json.RawMessage, error) {
	if strings.HasPrefix(text, "{") {
		if !json.Valid([]byte(text)) {
			return nil, usage("--filter %s is no JSON", text)
		}
		return json.RawMessage(text), nil
	}
	attribute, value, ok := strings.Cut(text, "=")
	if !ok || attribute == "" || value == "" {
		return nil, usage("--filter %q is no ATTRIBUTE=VALUE", text)
	}
	dialect, negated := "exact", false
	switch last := attribute[len(attribute)-1]; last {
	case '^':
		dialect = "prefix"
	case '$':
		dialect = "suffix"
	case '!':
		negated = true
	}
	attribute = strings.TrimRight(attribute, "^$!")
	var one any = map[string]map[string]string{dialect: {attribute: value}}
	if negated {
		one = map[string]any{"not": one}
	}
	return json.Marshal(one)
}

// report says what was made, and whether the sink agreed within the time.
func report(c *cobra.Command, client *api.Client, made api.Subscribed, wait time.Duration) error {
	out := c.OutOrStdout()
	fmt.Fprintf(out, "subscription  %s\n", made.ID)
	if name := made.Status.Consumer; name != "" {
		fmt.Fprintf(out, "consumer      %s\ntake facts    nats consumer next LIFECYCLE %s --count 1\n", name, name)
		return nil
	}
	if made.Secret != "" {
		fmt.Fprintf(out, "secret        %s\n              (it signs the deliveries, and is not shown again)\n", made.Secret)
	}
	ctx, cancel := context.WithTimeout(c.Context(), wait)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for made.Status.State == "pending" && made.Status.Reason == "" {
		select {
		case <-ctx.Done():
			fmt.Fprintln(out, "state         pending: the sink was not asked yet")
			return c.Context().Err()
		case <-tick.C:
		}
		raw, err := client.Subscription(ctx, made.ID)
		if errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &made); err != nil {
			return fmt.Errorf("the subscription is no JSON that is understood: %w", err)
		}
	}
	fmt.Fprintf(out, "state         %s", made.Status.State)
	if made.Status.Reason != "" {
		fmt.Fprintf(out, ": %s (it is asked again)", made.Status.Reason)
	}
	fmt.Fprintln(out)
	return nil
}
