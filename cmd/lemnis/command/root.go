package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/internal/secret"
)

// Exit codes.
const (
	codeFailed = 1
	codeUsage  = 2
)

// Run runs the command line and returns the exit code: 0, 1 for a failure, 2 for a command line that is not understood,
// or what a command says.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot() //nolint:contextcheck // commands get theirs when they are executed
	refused := helpOfKnown(root)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = refused()
	}
	if err == nil {
		return 0
	}
	var usage *usageError
	var exit *exitError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "lemnis: %v\n", err)
		return codeUsage
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "lemnis: %v\n", exit.err)
		}
		return exit.code
	}
	hint := ""
	if server := root.PersistentFlags().Lookup("server").Value.String(); api.Unreachable(err) && !strings.HasPrefix(server, "http://") && !strings.HasPrefix(server, "https://") {
		fmt.Fprintf(stderr, "lemnis: the server %q is no URL like %s: mend --server, or $LEMNIS_SERVER\n", secret.Redact(server), api.DefaultServer)
		return codeUsage
	}
	if api.Unreachable(err) {
		hint = "; is it running? `lemnis up` starts one, --server says where another is"
	}
	fmt.Fprintf(stderr, "lemnis: %v%s\n", err, hint)
	return codeFailed
}

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit %d: %v", e.code, e.err) }

// flags that several commands have.
type flags struct {
	server  string
	project string
	access  accessFlags
}

func newRoot() *cobra.Command {
	f := &flags{}
	root := group(&cobra.Command{
		Use: "lemnis", Short: "Run the whole DevOps lifecycle as events",
		Long: "Lemnis runs plan, develop, integrate, deploy, operate and learn as services that know nothing of each other:\neach subscribes to facts, decides, and states new ones.",
		Example: "  lemnis demo                         # the whole loop, once, on a real repository\n" +
			"  lemnis up                           # everything in one process, at " + api.DefaultServer + "\n" +
			"  lemnis apply -f shop.yaml           # a project\n" +
			"  lemnis events tail --project shop   # what happens in it",
	})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	addressVar(root.PersistentFlags(), &f.server, "server", cmp.Or(os.Getenv("LEMNIS_SERVER"), api.DefaultServer), "URL of the gateway ($LEMNIS_SERVER)")
	root.PersistentFlags().StringVar(&f.project, "project", os.Getenv("LEMNIS_PROJECT"), "project ($LEMNIS_PROJECT)")
	f.access.add(root)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newUp(), newDemo(f), newStreams(),
		newApply(f), newEvents(f), newApprove(f), newRefuse(f), newAck(f), newPause(f), newResume(f), newAbort(f), newFeedback(f), newDeadLetters(f), newRebuild(f), newRetain(f), newWebhooks(f), newTokens(f), newQuotas(f), newKeys(), newSubscriptions(f),
		newPipeline(), newLogs(f), newTests(f),
		newBackup(f), newRestore(f), newDoctor(f), newCanary(),
		newVersion(),
	)
	return root
}

func (f *flags) client() *api.Client { return api.New(f.server, f.access.options...) }

// needProject is the project that a command can not do without.
func (f *flags) needProject() (string, error) {
	if f.project == "" {
		return "", usage("which project? say --project NAME, or set LEMNIS_PROJECT")
	}
	return f.project, nil
}

// addressVar is a flag of an address, whose default is shown without the password that may be in it.
func addressVar(flags *pflag.FlagSet, to *string, name, def, usage string) {
	flags.StringVar(to, name, def, usage)
	flags.Lookup(name).DefValue = secret.Redact(def)
}
