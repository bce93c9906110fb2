//go:build linux

package runtimetest

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/services/deployer/process"
)

// file is the one that runs, even when the path has another content by now.
func (i Instance) file() string {
	if i.PID > 0 {
		return fmt.Sprintf("/proc/%d/exe", i.PID)
	}
	return i.Executable
}

func digest(instance Instance, r *Result) error {
	if instance.Digest == "" {
		return errors.New("the pipeline stated no digest")
	}
	f, err := os.Open(instance.file())
	if err != nil {
		return fmt.Errorf("the file that runs: %w", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return fmt.Errorf("the file that runs: %w", err)
	}
	r.Values["bytes"] = float64(n)
	got := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if got != instance.Digest {
		return fmt.Errorf("the file that runs is %s, the pipeline stated %s", got, instance.Digest)
	}
	r.Reason = "the file that runs is " + got + ", as the pipeline stated"
	return nil
}

func licences(instance Instance, policy Licences, r *Result) error {
	info, err := buildinfo.ReadFile(instance.file())
	if err != nil {
		return policy.billed(err, r)
	}
	if len(info.Deps) == 0 {
		r.Reason = fmt.Sprintf("no modules beside its own: only the standard library of %s (BSD-3-Clause)", info.GoVersion)
		return nil
	}
	var unknown, refused, names []string
	for _, m := range info.Deps {
		if slices.ContainsFunc(policy.Own, func(own string) bool { return m.Path == own || strings.HasPrefix(m.Path, own+"/") }) {
			continue
		}
		if m.Replace != nil {
			m = m.Replace // its code is what runs
		}
		name := m.Path + "@" + m.Version
		found := policy.of(m.Path, m.Version)
		if len(found) == 0 {
			unknown = append(unknown, name)
			continue
		}
		for _, licence := range found {
			if !slices.Contains(policy.Allow, licence) {
				refused = append(refused, name+" ("+licence+")")
			}
			if !slices.Contains(names, licence) {
				names = append(names, licence)
			}
		}
	}
	slices.Sort(names)
	r.Values["modules"], r.Values["unknown"], r.Values["refused"] = float64(len(info.Deps)), float64(len(unknown)), float64(len(refused))
	var problems []error
	if len(refused) > 0 {
		problems = append(problems, fmt.Errorf("not allowed: %s", strings.Join(refused, ", ")))
	}
	if len(unknown) > 0 && !policy.AllowUnknown {
		problems = append(problems, fmt.Errorf("licence unknown: %s", strings.Join(unknown, ", ")))
	}
	r.Reason = fmt.Sprintf("%d modules under %s", len(info.Deps), strings.Join(names, ", "))
	if len(unknown) > 0 {
		r.Reason += "; licence unknown, which this environment allows: " + strings.Join(unknown, ", ")
	}
	return errors.Join(problems...)
}

// billed are the licences of a file that is not Go's, as its bill of materials has them. Without one they are not known.
func (l Licences) billed(why error, r *Result) error {
	if len(l.Billed) == 0 && len(l.Unlicensed) == 0 {
		if !l.AllowUnknown {
			return fmt.Errorf("licences unknown: %w, and no bill of materials names any", why)
		}
		r.Reason = "licences unknown, which this environment allows: no list of modules is in the file, and no bill of materials names any"
		return nil
	}
	var refused []string
	for _, licence := range l.Billed {
		if !slices.Contains(l.Allow, licence) {
			refused = append(refused, licence)
		}
	}
	r.Values["unknown"], r.Values["refused"] = float64(len(l.Unlicensed)), float64(len(refused))
	r.Reason = "by its bill of materials under " + strings.Join(l.Billed, ", ")
	unknown := strings.Join(l.Unlicensed[:min(len(l.Unlicensed), mostNamed)], ", ")
	switch {
	case len(refused) > 0:
		return fmt.Errorf("not allowed, by its bill of materials: %s", strings.Join(refused, ", "))
	case unknown != "" && !l.AllowUnknown:
		return fmt.Errorf("licence unknown of %d, by its bill of materials: %s", len(l.Unlicensed), unknown)
	case unknown != "":
		r.Reason += "; licence unknown, which this environment allows: " + unknown
	}
	return nil
}

func ports(instance Instance, policy Ports, r *Result) error {
	if instance.PID <= 0 {
		return errors.New("the instance's process is not known")
	}
	sockets, err := process.Listening(instance.PID)
	if err != nil {
		return err
	}
	var own bool
	var problems []error
	for _, s := range sockets {
		own = own || s.Port == instance.Port
		if s.Port != instance.Port && !slices.Contains(policy.Allow, s.Port) {
			problems = append(problems, fmt.Errorf("process %d listens on port %d", s.PID, s.Port))
		}
		if policy.Loopback && !s.Loopback {
			problems = append(problems, fmt.Errorf("port %d is open beyond loopback", s.Port))
		}
	}
	if !own {
		problems = append(problems, fmt.Errorf("it does not listen on its own port %d", instance.Port))
	}
	r.Values["listening"] = float64(len(sockets))
	r.Reason = fmt.Sprintf("it listens on port %d, as it may", instance.Port)
	return errors.Join(problems...)
}
