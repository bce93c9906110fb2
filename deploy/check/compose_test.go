package check

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// container is what a compose file says of one, as far as it is judged.
type container struct {
	Image       string
	User        string
	ReadOnly    bool     `json:"read_only"`
	CapDrop     []string `json:"cap_drop"`
	SecurityOpt []string `json:"security_opt"`
	Privileged  bool
	Memory      any `json:"mem_limit"`
	CPUs        any `json:"cpus"`
	PIDs        any `json:"pids_limit"`
	Healthcheck struct{ Test []string }
	Restart     string
	Logging     struct {
		Driver  string
		Options map[string]string
	}
	Environment map[string]any
	Ports       []string
	Secrets     []string
	Volumes     []string
}

type composeFile struct {
	Version, Name string
	Services      map[string]container
	Secrets       map[string]struct{ File string }
	Volumes       map[string]any
}

var composeFiles = []string{"../compose/compose.yaml", "../compose/compose.cluster.yaml"}

func compose(t *testing.T, file string) (c composeFile) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c
}

// Each container is confined and bounded, as docs/stack.md says; what stays says how it is.
func TestContainersAreBounded(t *testing.T) {
	source := sources(t)
	for _, file := range composeFiles {
		c := compose(t, file)
		if c.Version != "3.9" || c.Name != "" || len(c.Services) == 0 {
			t.Errorf("%s: version %q, name %q: docker-compose 1.29 does not take it", file, c.Version, c.Name)
		}
		for name, s := range c.Services {
			for _, complaint := range bounded(name, s) {
				t.Errorf("%s, %s: %s", file, name, complaint)
			}
			for variable := range s.Environment {
				if strings.HasPrefix(variable, "LEMNIS_") && !bytes.Contains(source, []byte(`"`+variable+`"`)) {
					t.Errorf("%s, %s: no program reads %s", file, name, variable)
				}
			}
			for _, secret := range s.Secrets {
				if c.Secrets[secret].File == "" {
					t.Errorf("%s, %s: there is no secret %s", file, name, secret)
				}
			}
		}
	}
}

// bounded says what a container lacks.
func bounded(name string, s container) (complaints []string) {
	must := func(ok bool, what string) {
		if !ok {
			complaints = append(complaints, what)
		}
	}
	must(s.Image != "", "no image")
	must(s.ReadOnly, "writes to its root file system")
	must(slices.Equal(s.CapDrop, []string{"ALL"}) && !s.Privileged, "keeps capabilities")
	must(slices.Contains(s.SecurityOpt, "no-new-privileges:true"), "may gain rights")
	must(s.Memory != nil && s.CPUs != nil && s.PIDs != nil, "no limit of memory, CPU or processes")
	must(s.Logging.Driver == "json-file" && s.Logging.Options["max-size"] != "" && s.Logging.Options["max-file"] != "", "its log is not rotated")
	must(s.User != "" || strings.HasPrefix(name, "nats"), "no user") // that of NATS is its image's
	if name != "streams" && name != "demo" {                         // these end
		must(len(s.Healthcheck.Test) > 1, "no health check")
		must(s.Restart == "unless-stopped", "is not started again")
	}
	for _, port := range s.Ports {
		must(strings.HasPrefix(port, "127.0.0.1:"), "is published on "+port)
	}
	for _, volume := range s.Volumes {
		must(!strings.Contains(volume, "docker.sock"), "has the engine's socket")
	}
	return complaints
}

// In the cluster there are three servers, two of all else, and two of a kind differ in where they are reached and what they keep alone.
func TestTheClusterIsTheStackTwice(t *testing.T) {
	single, cluster := compose(t, composeFiles[0]), compose(t, composeFiles[1])
	for name, one := range single.Services {
		n := 2
		switch name {
		case "streams", "demo":
			if _, ok := cluster.Services[name]; !ok {
				t.Errorf("the cluster has no %s", name)
			}
			continue
		case "nats":
			n = 3
		}
		for i := range n + 1 {
			each, ok := cluster.Services[fmt.Sprintf("%s-%d", name, i+1)]
			if ok != (i < n) {
				t.Errorf("%s-%d: %t", name, i+1, ok)
			}
			if !ok {
				continue
			}
			for what, pair := range map[string][2]any{
				"image": {one.Image, each.Image}, "user": {one.User, each.User}, "secrets": {one.Secrets, each.Secrets},
				"limits": {[]any{one.Memory, one.CPUs, one.PIDs}, []any{each.Memory, each.CPUs, each.PIDs}}, "health check": {one.Healthcheck, each.Healthcheck},
			} {
				if !reflect.DeepEqual(pair[0], pair[1]) {
					t.Errorf("%s of %s-%d: %v, on one machine %v", what, name, i+1, pair[1], pair[0])
				}
			}
			for variable := range one.Environment {
				if _, ok := each.Environment[variable]; !ok {
					t.Errorf("%s-%d does not have %s", name, i+1, variable)
				}
			}
			if name != "nats" && name != "redis" && each.Environment["LEMNIS_REPLICAS"] != "3" {
				t.Errorf("%s-%d: replicas %v", name, i+1, each.Environment["LEMNIS_REPLICAS"])
			}
		}
	}
}

// The tool's own word on both files. It needs no engine.
func TestComposeTakesTheFiles(t *testing.T) {
	var tool []string
	for _, one := range [][]string{{"docker-compose"}, {"docker", "compose"}} {
		if exec.Command(one[0], append(one[1:], "version")...).Run() == nil {
			tool = one
		}
	}
	if tool == nil {
		t.Skip("SKIPPED: neither docker-compose nor docker compose is here: the compose files were NOT read by it")
	}
	for _, file := range composeFiles {
		cmd := exec.Command(tool[0], append(tool[1:], "-f", file, "config", "-q")...)
		cmd.Env = append(os.Environ(), "NATS_ROUTE_PASSWORD=none")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
