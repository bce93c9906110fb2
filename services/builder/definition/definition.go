package definition

import (
	"github.com/lemnis/lemnis/pkg/events"
)

// Bytes is a size that is written as text: "512MiB".
type Bytes = events.Bytes

// File is the name of the file at the root of a repository.
const File = ".lemnis.yaml"

// Pipeline is what is done with a commit.
type Pipeline struct {
	Environment map[string]string `json:"environment,omitempty"` // of every step
	Steps       []Step            `json:"steps"`
	Package     *Package          `json:"package,omitempty"` // nil: nothing is packaged
}

// Step is one script of the graph.
type Step struct {
	Name        string              `json:"name"`
	Run         string              `json:"run"`             // for sh -e
	Image       string              `json:"image,omitempty"` // empty: on the host
	Needs       *[]string           `json:"needs,omitempty"` // nil: the step before it in the file
	When        string              `json:"when,omitempty"`  // CEL; empty: always
	Matrix      map[string][]string `json:"matrix,omitempty"`
	Environment map[string]string   `json:"environment,omitempty"`
	Secrets     map[string]string   `json:"secrets,omitempty"` // variable to secret:<name>
	Services    []Service           `json:"services,omitempty"`
	Inputs      []string            `json:"inputs,omitempty"`  // patterns; empty: the whole checkout
	Outputs     []string            `json:"outputs,omitempty"` // patterns of what later steps and caches take from it
	Cache       []string            `json:"cache,omitempty"`   // folders that are kept from run to run
	Reports     Reports             `json:"reports,omitzero"`
	Timeout     events.Duration     `json:"timeout,omitempty"` // 0: DefaultTimeout
	Retries     int                 `json:"retries,omitempty"`
	Always      bool                `json:"always,omitempty"`  // run it also when nothing that it depends on has changed
	Network     bool                `json:"network,omitempty"` // off: the step reaches nobody
	Limits      Limits              `json:"limits,omitzero"`
}

// Service runs beside a step, for as long as the step does.
type Service struct {
	Name        string            `json:"name"` // its host name
	Image       string            `json:"image"`
	Environment map[string]string `json:"environment,omitempty"`
	Port        int               `json:"port,omitempty"` // that it listens to when it can be used; 0: by its image's health check or ports
}

// Reports are files that a step leaves, by pattern.
type Reports struct {
	Tests    []string `json:"tests,omitempty"`    // JUnit XML, go test -json or TAP, told by their content
	Coverage []string `json:"coverage,omitempty"` // a Go profile, Cobertura or LCOV
}

// Limits bound what a step takes of the machine. Zero is the executor's default.
type Limits struct {
	CPU       float64 `json:"cpu,omitempty"`       // cores
	Memory    Bytes   `json:"memory,omitempty"`    // of all its processes
	Processes int     `json:"processes,omitempty"` // at once
	Output    Bytes   `json:"output,omitempty"`    // that it may print
}

// Package says what becomes the artifact: the one file that a step makes, or the image that a Dockerfile describes. What is beside
// Dockerfile is for that alone.
type Package struct {
	Executable string            `json:"executable,omitempty"` // path of the one file that a step makes
	Dockerfile string            `json:"dockerfile,omitempty"` // path of the file that an image is built by
	Context    string            `json:"context,omitempty"`    // folder that its COPY sees; empty: the whole checkout
	Target     string            `json:"target,omitempty"`     // stage; empty: the last
	Args       map[string]string `json:"args,omitempty"`       // of its ARG
	Network    bool              `json:"network,omitempty"`    // off: its RUN reaches nobody
	Timeout    events.Duration   `json:"timeout,omitempty"`    // of the whole build; 0: DefaultTimeout
	Limits     Limits            `json:"limits,omitzero"`      // of each RUN; the output is the build's
}
