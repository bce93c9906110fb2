package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"strings"
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
	mostFile       = 1 << 20
)

var format = document.Format{Empty: "steps:", One: "pipeline"}

// Load reads the pipeline of a checkout: its file, or what was detected where it has none, as [Detect] does. found says where
// it comes from.
func Load(tree fs.FS, main string) (p Pipeline, found []string, err error) {
	info, err := fs.Stat(tree, File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Detect(tree, main)
	case err != nil:
		return Pipeline{}, nil, fmt.Errorf("read %s: %w", File, err)
	case !info.Mode().IsRegular() || info.Size() > mostFile:
		return Pipeline{}, nil, document.Errors{{File: File, Line: 1, Column: 1, Reason: fmt.Sprintf("has to be a file of at most %d bytes", mostFile)}}
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
	nameForm     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	secretForm   = regexp.MustCompile(`^secret:[a-zA-Z0-9][a-zA-Z0-9._-]*$`)
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
	if circle := p.circle(); circle != nil {
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
	if strings.TrimSpace(s.Run) == "" {
		no(at+".run", "is missing: the script of the step")
	}
	if strings.ContainsAny(s.Image, " \t\n") {
		no(at+".image", "%q is no image", s.Image)
	}
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
		service.check(no, field)
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
	if t := time.Duration(s.Timeout); t > mostTimeout {
		no(at+".timeout", "is %s; %s at most", t, mostTimeout)
	}
	if s.Retries < 0 || s.Retries > mostRetries {
		no(at+".retries", "has to be 0 to %d", mostRetries)
	}
	s.Limits.check(no, at+".limits")
}

func (s Service) check(no refuse, at string) {
	if !nameForm.MatchString(s.Name) {
		no(at+".name", "%q has to be 1 to 40 of a-z, 0-9 and '-', not '-' at its ends", s.Name)
	}
	if s.Image == "" || strings.ContainsAny(s.Image, " \t\n") {
		no(at+".image", "has to name an image")
	}
	if s.Port < 0 || s.Port > 65535 {
		no(at+".port", "has to be 1 to 65535")
	}
	variables(no, at+".environment", s.Environment)
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
