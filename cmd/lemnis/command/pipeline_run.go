package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/definition"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// localRun is what the flags of `pipeline run` say.
type localRun struct {
	spec      pipeline.Spec
	isolation string
	secrets   string // folder of files, one a secret
	output    string
	quiet     bool
}

func newPipelineRun() *cobra.Command {
	var r localRun
	c := &cobra.Command{
		Use: "run [DIR]", Short: "Run the pipeline of a working copy", Args: atMost("DIR"),
		Long: "Run the pipeline of the working copy at DIR, here when left out, as the builder would: its " + definition.File + ", or what is detected, by the same\n" +
			"executor, apart from the rest of the machine where the kernel grants it. What the steps print is shown while they run; what they make stays in\n" +
			"the working copy. Ends with 0 when every step succeeded, with 1 when one did not, with 3 when the machinery failed or the run was cancelled.",
		RunE: func(c *cobra.Command, args []string) error {
			r.spec.Dir = "."
			if len(args) > 0 {
				r.spec.Dir = args[0]
			}
			return r.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringArrayVar(&r.spec.Only, "step", nil, "run this step and what it needs only; may be said again")
	f.StringVar(&r.spec.Main, "main", "", "Go package to package where the pipeline is detected, as ./cmd/api")
	f.StringVar(&r.spec.Occasion.Branch, "branch", "main", "the master copy's branch")
	f.StringVar(&r.spec.Occasion.Change, "change", "", "id of a change; the master copy itself when left out")
	f.StringArrayVar(&r.spec.Occasion.Paths, "path", nil, "file that the change touches; may be said again")
	f.IntVar(&r.spec.Parallel, "parallel", 0, "steps at once; as many as there are processors when 0")
	f.StringVar(&r.secrets, "secrets", "", "folder with a file for each secret; of a server it is <secrets>/<project>")
	f.StringVar(&r.output, "output", "", "folder for build.log and bin/<the packaged file, or image.tar>; without it neither is kept outside of the working copy")
	f.StringVar(&r.isolation, "isolation", os.Getenv("LEMNIS_ISOLATION"), "of steps from the machine: auto, required or off [$LEMNIS_ISOLATION]")
	f.BoolVarP(&r.quiet, "quiet", "q", false, "show the summary only, and the end of the log of a run that failed")
	return c
}

// codeMachinery ends a run about whose project nothing was found out.
const codeMachinery = 3

func (r *localRun) run(ctx context.Context, out, complain io.Writer) error {
	isolation, err := executor.ParseIsolation(r.isolation)
	if err != nil {
		return usage("--isolation: %v", err)
	}
	spec := r.spec
	spec.Host = executor.NewProcess(isolation)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	spec.Image = executor.NewDocker(filepath.Join(cache, "lemnis", "engine"))
	if spec.Output = r.output; spec.Output == "" {
		if spec.Output, err = os.MkdirTemp("", "lemnis-run-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(spec.Output) }()
	}
	spec.Files, spec.Created = committed(ctx, spec.Dir)
	if r.secrets != "" {
		folder, err := filepath.Abs(r.secrets)
		if err != nil {
			return err
		}
		spec.Secret = func(name string) (string, error) {
			return secret.Read(filepath.Dir(folder), filepath.Base(folder), name)
		}
		spec.Hidden = []string{folder}
	}
	if !r.quiet {
		spec.Live = out
	}
	began := time.Now()
	report, err := pipeline.Run(ctx, spec)
	if err != nil {
		return &exitError{codeMachinery, err}
	}
	if r.quiet && !report.Succeeded() {
		fmt.Fprint(out, report.LogTail)
	}
	r.summarize(out, report, time.Since(began))
	if failed, is := report.Failed(); is {
		fmt.Fprintf(complain, "lemnis: %s: %s\n", failed.Name, failed.Reason)
		return &exitError{code: codeFailed}
	}
	return nil
}

// committed are the files that a commit of the working copy would hold, and the time of the last one: an image is then the one that the
// builder would make. What is no working copy of git has neither.
func committed(ctx context.Context, dir string) (map[string]string, time.Time) {
	names, err := exec.CommandContext(ctx, "git", "-C", dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, time.Time{}
	}
	files := map[string]string{}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name != "" {
			files[name] = ""
		}
	}
	text, err := exec.CommandContext(ctx, "git", "-C", dir, "log", "-1", "--format=%ct").Output()
	seconds, wrong := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || wrong != nil {
		return files, time.Time{}
	}
	return files, time.Unix(seconds, 0)
}

func (r *localRun) summarize(out io.Writer, report pipeline.Report, took time.Duration) {
	fmt.Fprintln(out)
	for _, s := range report.Steps {
		line := fmt.Sprintf("%-8s %6.1fs  %s", s.Outcome, s.Finished.Sub(s.Started).Seconds(), s.Name)
		if s.Attempts > 1 {
			line += fmt.Sprintf(" (%d attempts)", s.Attempts)
		}
		fmt.Fprintln(out, line)
	}
	if tests := len(report.Tests); tests > 0 {
		fmt.Fprintf(out, "tests    %d passed, %d failed, %d skipped", report.Count(testreport.Passed), report.Count(testreport.Failed), report.Count(testreport.Skipped))
		if report.Statements > 0 {
			fmt.Fprintf(out, "; they cover %.1f %%", report.Coverage)
		}
		fmt.Fprintln(out)
	}
	for _, image := range slices.Sorted(maps.Keys(report.Images)) {
		fmt.Fprintf(out, "image    %s %s\n", image, report.Images[image])
	}
	if report.Packaged() != "" {
		fmt.Fprintf(out, "package  %s %s, %d bytes\n", filepath.Base(report.Packaged()), report.Digest, report.Size)
	}
	if r.output != "" {
		fmt.Fprintf(out, "log      %s\n", report.LogFile)
	}
	fmt.Fprintf(out, "took     %.1fs\n", took.Seconds())
}
