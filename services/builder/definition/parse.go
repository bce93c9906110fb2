package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/lemnis/lemnis/internal/document"
)

// Bounds of what a file may ask for.
const (
	DefaultTimeout = 15 * time.Minute
	mostTimeout    = 24 * time.Hour
	mostSteps      = 200
	mostTasks      = 500
	mostRetries    = 10
	mostFile       = 1 << 20 // of other tools
)

var format = document.Format{Empty: "steps:", One: "pipeline"}

// Load reads the pipeline of a checkout: its file, or what was detected where it has none, as [Detect] does. found says where
// it comes from. The error is as of [Parse] and [Detect], [ErrUnread], or a fault.
func Load(tree fs.FS, main string) (p Pipeline, found []string, err error) {
	p, found, err = load(tree, main)
	var wrong document.Errors
	if err == nil || errors.As(err, &wrong) || errors.Is(err, ErrNothing) || errors.Is(err, ErrNoMain) || slices.ContainsFunc(faults, func(f syscall.Errno) bool { return errors.Is(err, f) }) {
		return p, found, err
	}
	return p, found, fmt.Errorf("%w: %w", ErrUnread, err)
}

// ErrUnread says that a checkout holds something that can not be read for what it is called: another time will not help.
var ErrUnread = errors.New("the project can not be read")

// faults are what the machine may have had no more of, or have lost, when something was read.
var faults = []syscall.Errno{syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EINTR, syscall.ESTALE, syscall.ENODEV, syscall.ENXIO}

func load(tree fs.FS, main string) (p Pipeline, found []string, err error) {
	info, err := fs.Stat(tree, File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Detect(tree, main)
	case err != nil:
		return Pipeline{}, nil, fmt.Errorf("read %s: %w", File, err)
	case !info.Mode().IsRegular() || info.Size() > document.MostBytes:
		return Pipeline{}, nil, document.Errors{{File: File, Line: 1, Column: 1, Reason: fmt.Sprintf("has to be a file of at most %d bytes", document.MostBytes)}}
	}
	text, err := fs.ReadFile(tree, File)
	if err != nil {
		return Pipeline{}, nil, fmt.Errorf("read %s: %w", File, err)
	}
	p, err = Parse(File, text)
	return p, []string{File}, err
}

// Parse reads a pipeline. name is what errors call the file. The error is of type [document.Errors].
func Parse(name string, text []byte) (Pipeline, error) {
	var p Pipeline
	d := format.Read(name, text, &p)
	if !d.Unreadable() {
		p.check(func(field, format string, args ...any) { d.Refuse(field, format, args...) })
	}
	if err := d.Err(); err != nil {
		return Pipeline{}, err
	}
	return p, nil
}

// Encode writes a pipeline as Parse reads it.
func Encode(p Pipeline) ([]byte, error) {
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b, yaml.UseJSONMarshaler(), yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
	if err := encoder.Encode(p); err != nil {
		return nil, fmt.Errorf("encode the pipeline: %w", err)
	}
	if back, err := Parse("", b.Bytes()); err == nil && same(back, p) {
		return b.Bytes(), nil
	}
	// A text that the library does not bring back as it was. JSON is YAML too, less pleasant to read.
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the pipeline: %w", err)
	}
	return append(text, '\n'), nil
}

func same(a, b Pipeline) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

var (
	nameForm      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	variableForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	imageVariable = regexp.MustCompile(`\$\{([^}]*)\}`)
	secretForm    = regexp.MustCompile(`^secret:[a-zA-Z0-9][a-zA-Z0-9._-]*$`)
)

// refuse says what is wrong with a field.
type refuse func(field, format string, args ...any)

// check says all that is wrong with the whole.
func (p Pipeline) check(no refuse) {
	variables(no, "environment", p.Environment)
	switch {
	case len(p.Steps) == 0:
		no("steps", "there are none; a pipeline has at least one step")
	case len(p.Steps) > mostSteps:
		no("steps", "are %d; %d at most", len(p.Steps), mostSteps)
		return
	}
	seen := map[string]int{}
	for i, s := range p.Steps {
		at := fmt.Sprintf("steps[%d]", i)
		if first, twice := seen[s.Name]; twice {
			no(at+".name", "steps[%d] has this name already", first)
		} else {
			seen[s.Name] = i
		}
		s.check(no, at)
	}
	for i, s := range p.Steps {
		for j, need := range deref(s.Needs) {
			if _, ok := seen[need]; !ok {
				no(fmt.Sprintf("steps[%d].needs[%d]", i, j), "there is no step %q%s", need, document.Nearest(need, keysOf(seen)))
			}
		}
	}
	if circle := p.circle(); circle != nil && len(seen) == len(p.Steps) { // of a name that is there twice it is said already
		no(fmt.Sprintf("steps[%d].needs", seen[circle[0]]), "goes in a circle: %s", strings.Join(append(circle, circle[0]), " needs "))
	}
	if n := p.tasks(); n > mostTasks {
		no("steps", "make %d tasks with their matrices; %d at most", n, mostTasks)
	}
	if p.Package != nil {
		p.Package.check(no)
	}
}

func (s Step) check(no refuse, at string) {
	switch {
	case s.Name == "":
		no(at+".name", "is missing")
	case !nameForm.MatchString(s.Name):
		no(at+".name", "%q has to be 1 to 40 of a-z, 0-9 and '-', not '-' at its ends", s.Name)
	}
	switch {
	case strings.TrimSpace(s.Run) == "":
		no(at+".run", "is missing: the script of the step")
	case strings.ContainsRune(s.Run, 0):
		no(at+".run", "holds a NUL")
	}
	image(no, at+".image", s.Image, s.Matrix)
	if err := compile(s.When); err != nil {
		no(at+".when", "%s", err)
	}
	for variable, values := range s.Matrix {
		field := at + ".matrix." + variable
		if !variableForm.MatchString(variable) {
			no(field, "%q can not be the name of a variable", variable)
		}
		if len(values) == 0 {
			no(field, "has no values")
		}
		for i, value := range values {
			switch {
			case strings.ContainsRune(value, 0):
				no(fmt.Sprintf("%s[%d]", field, i), "holds a NUL")
			case slices.Index(values, value) < i:
				no(fmt.Sprintf("%s[%d]", field, i), "%q is there already", value)
			}
		}
	}
	variables(no, at+".environment", s.Environment)
	for variable, name := range s.Secrets {
		field := at + ".secrets." + variable
		switch {
		case !variableForm.MatchString(variable):
			no(field, "%q can not be the name of a variable", variable)
		case !secretForm.MatchString(name):
			no(field, "has to name a secret: secret:<name>; a secret itself never stands in a file")
		}
	}
	known := map[string]int{}
	for i, service := range s.Services {
		field := fmt.Sprintf("%s.services[%d]", at, i)
		service.check(no, field, s.Matrix)
		if first, twice := known[service.Name]; twice {
			no(field+".name", "services[%d] has this name already", first)
		}
		known[service.Name] = i
	}
	for list, patterns := range map[string][]string{"inputs": s.Inputs, "outputs": s.Outputs, "cache": s.Cache, "reports.tests": s.Reports.Tests, "reports.coverage": s.Reports.Coverage} {
		for i, pattern := range patterns {
			inside(no, fmt.Sprintf("%s.%s[%d]", at, list, i), pattern)
		}
	}
	for i, folder := range s.Cache {
		switch field := fmt.Sprintf("%s.cache[%d]", at, i); {
		case path.Clean(folder) == ".":
			no(field, "is the checkout itself; name folders in it")
		case strings.HasPrefix(folder, "~"):
			no(field, "%q leads out of the checkout; a step's home is empty", folder)
		case strings.ContainsAny(folder, "*?"):
			no(field, "%q is a pattern; caches are folders", folder)
		}
	}
	if t := time.Duration(s.Timeout); t > mostTimeout {
		no(at+".timeout", "is %s; %s at most", t, mostTimeout)
	}
	if s.Retries < 0 || s.Retries > mostRetries {
		no(at+".retries", "has to be 0 to %d", mostRetries)
	}
	s.Limits.check(no, at+".limits")
}

func (s Service) check(no refuse, at string, matrix map[string][]string) {
	if !nameForm.MatchString(s.Name) {
		no(at+".name", "%q has to be 1 to 40 of a-z, 0-9 and '-', not '-' at its ends", s.Name)
	}
	if s.Image == "" {
		no(at+".image", "has to name an image")
	}
	image(no, at+".image", s.Image, matrix)
	if s.Port < 0 || s.Port > 65535 {
		no(at+".port", "has to be 1 to 65535")
	}
	variables(no, at+".environment", s.Environment)
}

// image refuses what is none. It may be of variables of the matrix: golang:${GO}.
func image(no refuse, field, name string, matrix map[string][]string) {
	if strings.ContainsAny(name, " \t\n\x00") {
		no(field, "%q is no image", name)
	}
	for _, named := range imageVariable.FindAllStringSubmatch(name, -1) {
		if _, is := matrix[named[1]]; !is {
			no(field, "%q is no variable of the matrix%s", named[1], document.Nearest(named[1], slices.Sorted(maps.Keys(matrix))))
		}
	}
}

func (p Package) check(no refuse) {
	if (p.Executable == "") == (p.Dockerfile == "") {
		no("package", "has to say one of executable and dockerfile")
		return
	}
	if p.Executable != "" {
		inside(no, "package.executable", p.Executable)
		p.Executable = ""
		if !reflect.ValueOf(p).IsZero() {
			no("package", "says what holds for a dockerfile only, beside the executable")
		}
		return
	}
	inside(no, "package.dockerfile", p.Dockerfile)
	if p.Context != "" {
		inside(no, "package.context", p.Context)
	}
	if strings.ContainsAny(p.Target, " \t\n") {
		no("package.target", "%q is no name of a stage", p.Target)
	}
	for name, value := range p.Args {
		switch {
		case strings.HasPrefix(value, "secret:"):
			no("package.args."+name, "is a secret, which would stand in the image")
		default:
			variables(no, "package.args", map[string]string{name: value})
		}
	}
	if t := time.Duration(p.Timeout); t > mostTimeout {
		no("package.timeout", "is %s; %s at most", t, mostTimeout)
	}
	p.Limits.check(no, "package.limits")
}

func (l Limits) check(no refuse, at string) {
	if l.CPU < 0 {
		no(at+".cpu", "is negative")
	}
	if l.Processes < 0 {
		no(at+".processes", "is negative")
	}
}

func variables(no refuse, field string, all map[string]string) {
	for name, value := range all {
		switch {
		case !variableForm.MatchString(name):
			no(field+"."+name, "%q can not be the name of a variable", name)
		case strings.ContainsRune(value, 0):
			no(field+"."+name, "holds a NUL")
		case strings.HasPrefix(value, "secret:"):
			no(field+"."+name, "a secret is given under secrets, so that it is masked")
		}
	}
}

// inside refuses a path or pattern that leads out of the checkout.
func inside(no refuse, field, pattern string) {
	clean := path.Clean(pattern)
	switch {
	case pattern == "":
		no(field, "is empty")
	case path.IsAbs(pattern), clean == "..", strings.HasPrefix(clean, "../"):
		no(field, "%q leads out of the checkout", pattern)
	default:
		if _, err := path.Match(strings.ReplaceAll(pattern, "**", "*"), ""); err != nil {
			no(field, "%q is no pattern", pattern)
		}
	}
}
