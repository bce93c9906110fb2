package command

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/pkg/events"
)

// decision is what a person says about a rollout.
type decision struct {
	environment, service string
	by, reason, rollout  string
	output               string
}

// onRollout makes a command that takes ENVIRONMENT/SERVICE.
func onRollout(f *flags, name, short string, say func(d decision) any) *cobra.Command {
	var d decision
	c := &cobra.Command{
		Use: name + " ENVIRONMENT/SERVICE", Short: short, Args: exactly("ENVIRONMENT/SERVICE"),
		Example: "  lemnis " + name + " prod/api --project shop --by ann",
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputIs(d.output); err != nil {
				return err
			}
			var ok bool
			if d.environment, d.service, ok = strings.Cut(args[0], "/"); !ok || d.environment == "" || d.service == "" {
				return usage("%q is no ENVIRONMENT/SERVICE, like prod/api", args[0])
			}
			d.by = cmp.Or(d.by, f.access.speaker())
			return f.say(c, d.output, cmp.Or(d.rollout, args[0]), say(d))
		},
	}
	c.Flags().StringVar(&d.by, "by", "", "who decides; the user of this machine without it")
	c.Flags().StringVar(&d.reason, "reason", "", "why")
	c.Flags().StringVar(&d.rollout, "rollout", "", "only if this very rollout is in flight")
	outputFlag(c, &d.output)
	return c
}

func newApprove(f *flags) *cobra.Command {
	return onRollout(f, "approve", "Let a rollout go on that waits for an approval", func(d decision) any {
		return events.ApprovalGiven{Environment: d.environment, Service: d.service, Rollout: d.rollout, By: d.by, Reason: d.reason}
	})
}

func newRefuse(f *flags) *cobra.Command {
	return onRollout(f, "refuse", "End a rollout that waits for an approval", func(d decision) any {
		return events.ApprovalRefused{Environment: d.environment, Service: d.service, Rollout: d.rollout, By: d.by, Reason: d.reason}
	})
}

func newAbort(f *flags) *cobra.Command {
	return onRollout(f, "abort", "End a rollout; its users go back to the version of before", func(d decision) any {
		return events.DeploymentAborted{Rollout: events.Rollout{ID: d.rollout, Environment: d.environment, Service: d.service}, By: d.by, Reason: d.reason}
	})
}

func newPause(f *flags) *cobra.Command {
	return onRollout(f, "pause", "Hold a rollout where it is; it is still rolled back when it is bad", func(d decision) any {
		return events.DeploymentPaused{Rollout: events.Rollout{ID: d.rollout, Environment: d.environment, Service: d.service}, By: d.by, Reason: d.reason}
	})
}

func newResume(f *flags) *cobra.Command {
	return onRollout(f, "resume", "Let a paused rollout go on, also one that an incident holds", func(d decision) any {
		return events.DeploymentResumed{Rollout: events.Rollout{ID: d.rollout, Environment: d.environment, Service: d.service}, By: d.by}
	})
}

func newAck(f *flags) *cobra.Command {
	var by, output string
	c := &cobra.Command{
		Use: "ack INCIDENT", Short: "Say that you take care of an incident", Args: exactly("INCIDENT"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			return f.say(c, output, args[0], events.AlertAcknowledged{Incident: args[0], By: cmp.Or(by, f.access.speaker())})
		},
	}
	c.Flags().StringVar(&by, "by", "", "who takes care; the user of this machine without it")
	outputFlag(c, &output)
	return c
}
