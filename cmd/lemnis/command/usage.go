package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lemnis/lemnis/internal/spelling"
)

// usageError says that the command line was not understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// group makes a command that only holds others; an unknown one is refused with the nearest.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.AddCommand(children...)
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		names := make([]string, 0, len(c.Commands()))
		for _, child := range c.Commands() {
			if child.IsAvailableCommand() {
				names = append(names, child.Name())
			}
		}
		return usage("%s has no command %q%s", c.CommandPath(), args[0], didYouMean(args[0], names))
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// helpOfKnown has `help` and `--help` refuse a command that there is not, with the nearest. What --help refused is told when the
// command line was executed: showing help can not fail.
func helpOfKnown(root *cobra.Command) (refused func() error) {
	var unknown error
	show := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if c.HasSubCommands() { // what is left of the command line names none of them
			unknown = c.ValidateArgs(c.Flags().Args())
		}
		if unknown == nil {
			show(c, args)
		}
	})
	refused = func() error { return unknown }
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		return refused // it has no commands
	}
	help.Args = func(_ *cobra.Command, args []string) error {
		of, rest, err := root.Find(args)
		if err != nil || len(rest) == 0 || of.Args == nil {
			return err
		}
		return of.Args(of, rest)
	}
	return refused
}

// exactly takes as many arguments as there are names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage("%s: %s is missing; write: %s", c.CommandPath(), names[len(args)], c.UseLine())
		case len(args) > len(names):
			return usage("%s: %q is too much; write: %s", c.CommandPath(), args[len(names)], c.UseLine())
		}
		return nil
	}
}

// atMost takes one argument or none.
func atMost(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usage("%s: %q is too much; %s is one; write: %s", c.CommandPath(), args[1], name, c.UseLine())
		}
		return nil
	}
}

// flagError names the flag that was probably meant.
func flagError(c *cobra.Command, err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		var names []string
		add := func(f *pflag.Flag) { names = append(names, f.Name) }
		c.Flags().VisitAll(add)
		c.InheritedFlags().VisitAll(add)
		if meant := didYouMean(name, names); meant != "" {
			return usage("%s has no flag --%s%s", c.CommandPath(), name, strings.Replace(meant, `"`, `"--`, 1))
		}
		return usage("%s has no flag --%s; `%s --help` lists them", c.CommandPath(), name, c.CommandPath())
	}
	if wrong, is := errors.AsType[*pflag.InvalidValueError](err); is {
		if want := wanted(wrong.GetFlag().Value.Type()); want != "" {
			return usage("%s: --%s: %q is no %s", c.CommandPath(), wrong.GetFlag().Name, wrong.GetValue(), want)
		}
	}
	return usage("%s: %s", c.CommandPath(), text)
}

// wanted says what a flag of a number or a time takes; others say it themselves.
func wanted(kind string) string {
	switch kind {
	case "int", "int64":
		return "whole number"
	case "float64":
		return "number"
	case "duration":
		return "duration, such as 90s or 2h"
	}
	return ""
}

// didYouMean names what is nearest to a mistyped word; empty when nothing is near.
func didYouMean(typed string, known []string) string {
	best, least := "", max(len(typed)/2, 2)+1
	for _, k := range known {
		d := spelling.Distance(typed, k)
		if strings.HasPrefix(k, typed) || strings.HasSuffix(k, "."+typed) { // the beginning, or the field without what it is within
			d = 1
		}
		if d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
