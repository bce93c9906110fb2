package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// readies is how long a service may take until it can be used.
const readies = 2 * time.Minute

// service is one container beside a script.
type service struct {
	Service
	id      string
	ports   map[int]bool // one of them has to be listened to; none: it need only run
	checked bool         // its image says how to find out whether it is well
}

// serve brings the services of a step up. They and the script share one network, where each listens to the same loopback: that
// keeps them from everybody else, and is what their names mean.
func (p *pod) serve(ctx context.Context) error {
	for _, s := range p.step.Beside {
		if err := p.begin(ctx, s); err != nil {
			return err
		}
	}
	for _, s := range p.services {
		if err := p.ready(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *pod) begin(ctx context.Context, s Service) error {
	image, err := p.find(ctx, s.Image)
	if err != nil {
		return err
	}
	one := service{Service: s, ports: map[int]bool{}}
	if s.Port != 0 {
		one.ports[s.Port] = true
	} else if image.Config != nil {
		one.checked = image.Config.Healthcheck != nil && len(image.Config.Healthcheck.Test) > 0 && image.Config.Healthcheck.Test[0] != "NONE"
		for port := range image.Config.ExposedPorts {
			number, protocol, _ := strings.Cut(port, "/")
			if n, err := strconv.Atoi(number); err == nil && (protocol == "" || protocol == "tcp") {
				one.ports[n] = true
			}
		}
	}
	host := p.bounded()
	host.Init = nil // whether its program can be started is found out at once
	// Such programs begin as root, put their folders right, and become an other user.
	host.CapAdd = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
	host.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "1"}}
	if len(p.services) == 0 {
		for _, other := range p.step.Beside {
			host.ExtraHosts = append(host.ExtraHosts, other.Name+":127.0.0.1")
		}
	}
	if one.id, err = p.make(ctx, s.Image, &container.Config{Image: image.ID, Env: s.Environment}, host); err != nil {
		return err
	}
	if err := p.start(ctx, one.id); silent(err) {
		return fmt.Errorf("start service %s: %w", s.Name, err)
	} else if err != nil {
		return failed{unable(CauseService, "service %s (image %s) does not start: %v", s.Name, s.Image, err)}
	}
	p.services = append(p.services, one)
	return nil
}

// ready waits until a service can be used.
func (p *pod) ready(ctx context.Context, s service) error {
	limited, cancel := context.WithTimeout(ctx, min(readies, p.step.Limits.Time))
	defer cancel()
	ran := false // when it was looked at before
	for why := ""; ; {
		about, err := p.inspect(limited, s.id)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case limited.Err() != nil:
			return p.down(ctx, s, "is not ready after %s: %s", min(readies, p.step.Limits.Time), why)
		case err != nil:
			return fmt.Errorf("ask for service %s: %w", s.Name, err)
		}
		state := about.Container.State
		if !state.Running {
			return p.down(ctx, s, "has ended, with status %d", state.ExitCode)
		}
		if s.checked {
			if why = "its health check has not passed yet"; state.Health != nil && state.Health.Status == container.Healthy {
				return nil
			}
		} else {
			deaf, err := p.listens(limited, s)
			switch {
			case errors.Is(err, errUnable) && ran:
				_, _ = fmt.Fprintf(p.out, "= service %s is taken for ready: its image has neither a health check nor a cat of use, so that its ports can not be looked at\n", s.Name)
				return nil
			case err == nil && deaf == "" && (ran || len(s.ports) > 0):
				return nil
			case err == nil:
				why = deaf
			}
		}
		ran = true
		select {
		case <-limited.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// listens says, of a service that is not ready, why: nobody listens to its ports.
func (p *pod) listens(ctx context.Context, s service) (why string, err error) {
	if len(s.ports) == 0 {
		return "", nil
	}
	tables, err := p.print(ctx, s.id, "cat", "/proc/net/tcp", "/proc/net/tcp6")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(tables) {
		field := strings.Fields(line) // sl local remote state …, in hexadecimal; state 0A listens
		if len(field) < 4 || field[3] != "0A" {
			continue
		}
		_, port, _ := strings.Cut(field[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil && s.ports[int(n)] {
			return "", nil
		}
	}
	return "nobody listens to " + portList(s.ports), nil
}

// errUnable says that a container has no such program, or one that is another's namesake.
var errUnable = errors.New("there is no such program")

// mostPrinted is what a program of an image may print to the builder: it is whatever the image's maker likes.
const mostPrinted = 1 << 20

// upTo keeps what is written to it, as long as that is not too much.
type upTo struct {
	bytes.Buffer
	most int
}

func (u *upTo) Write(p []byte) (int, error) {
	if u.Len()+len(p) > u.most {
		return 0, errUnable
	}
	return u.Buffer.Write(p)
}

// print runs a program in a container and returns what it prints.
func (p *pod) print(ctx context.Context, id string, program ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	made, err := p.api.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: program, AttachStdout: true})
	if err != nil {
		return "", err
	}
	said, err := p.api.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", err
	}
	defer said.Close()
	stop := context.AfterFunc(ctx, said.Close)
	defer stop()
	out := upTo{most: mostPrinted}
	if _, err := stdcopy.StdCopy(&out, io.Discard, said.Reader); err != nil {
		return "", err
	}
	about, err := p.api.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err == nil && (about.ExitCode == 126 || about.ExitCode == 127) {
		err = errUnable
	}
	return out.String(), err
}

// down is the result of a step whose service does not come up; what that printed last goes to the log.
func (p *pod) down(ctx context.Context, s service, format string, args ...any) error {
	p.quote(ctx)
	return failed{unable(CauseService, "service %s (image %s) "+format, append([]any{s.Name, s.Image}, args...)...)}
}

// quoted is how many lines of a service's log are shown.
const quoted = "20"

// quote prints what the services of a step that failed said last.
func (p *pod) quote(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	for _, s := range p.services {
		log, err := p.api.ContainerLogs(ctx, s.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: quoted})
		if err != nil {
			continue
		}
		said := upTo{most: mostPrinted} // twenty lines may be long
		_, _ = stdcopy.StdCopy(&said, &said, log)
		_ = log.Close()
		for line := range strings.Lines(said.String()) {
			_, _ = fmt.Fprintf(p.out, "%s: %s\n", s.Name, strings.TrimRight(line, "\r\n"))
		}
	}
}

func portList(ports map[int]bool) string {
	var all []string
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		all = append(all, strconv.Itoa(port))
	}
	return "port " + strings.Join(all, ", ")
}
