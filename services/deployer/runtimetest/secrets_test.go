//go:build linux

package runtimetest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSecretsInTheFileThatRuns(t *testing.T) {
	// Written in two halves, so that no scanner takes this file for one that holds keys.
	aws, github := "AKI"+"AQ3EGRXZ7LMNB4WPD", "gh"+"p_"+strings.Repeat("aB3d", 9)
	block := "-----BEGIN " + "PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----"
	for _, test := range []struct{ name, content, reason string }{
		{"none", "ELF" + strings.Repeat("x", 1000), ""},
		{"names alone", "-----BEGIN " + "PRIVATE KEY-----%s AKI" + "A ghp_ sk_live_ AKIA" + "IOSFODNN7EXAMPLE", ""},
		{"within another word", "x" + aws + "Y", ""},
		{"AWS", "\x00" + aws + "\x00", "an access key of AWS at byte 1"},
		{"GitHub", " " + github + " ", "a token of GitHub at byte 1"},
		{"a key", "abc\x00" + block, "a private key at byte 4"},
		{"where two chunks meet", strings.Repeat("\x00", secretChunk+secretOverlap-10) + aws + "\x00", "an access key of AWS at byte 1049590"},
		{"at the end of a later one", strings.Repeat("\x00", 5*secretChunk) + github, "a token of GitHub at byte 5242880"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "app")
			if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			all := Run(t.Context(), Instance{Executable: file}, Suite{Secrets: &Secrets{}})
			if len(all) != 1 || all[0].Passed != (test.reason == "") || !strings.Contains(all[0].Reason, test.reason) || strings.Count(all[0].Reason, " at byte ") > 1 {
				t.Errorf("%+v", all)
			}
			if strings.Contains(all[0].Reason, aws) || strings.Contains(all[0].Reason, github) {
				t.Errorf("it tells the secret: %s", all[0].Reason)
			}
		})
	}
}

// Some keys open nothing: a project calls them by the fingerprints that the test tells, and is told of every other one.
func TestAKeyThatOpensNothing(t *testing.T) {
	one, other := "gh"+"p_"+strings.Repeat("aB3d", 9), "gh"+"p_"+strings.Repeat("zY9x", 9)
	file := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(file, []byte(one+"\x00"+other+"\x00"+one), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(harmless ...string) Result {
		return Run(t.Context(), Instance{Executable: file}, Suite{Secrets: &Secrets{Harmless: harmless}})[0]
	}
	fingerprints := regexp.MustCompile(`[0-9a-f]{16}`).FindAllString(run().Reason, -1)
	if len(fingerprints) != 3 || fingerprints[0] != fingerprints[2] || fingerprints[0] == fingerprints[1] {
		t.Fatal(run().Reason)
	}
	if got := run(fingerprints[0]); got.Passed || strings.Contains(got.Reason, fingerprints[0]) || !strings.Contains(got.Reason, "byte 41 (fingerprint "+fingerprints[1]) {
		t.Errorf("%+v", got)
	}
	if got := run(fingerprints...); !got.Passed || !strings.Contains(got.Reason, "but 3 that the project calls harmless") {
		t.Errorf("%+v", got)
	}
}

// A program that is not Go's is held to its bill of materials; without one nothing is known.
func TestLicencesByTheBill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		policy Licences
		reason string
		passed bool
	}{
		"allowed":            {Licences{Billed: []string{"MIT"}}, "under MIT", true},
		"not allowed":        {Licences{Billed: []string{"GPL-3.0-only", "MIT"}}, "not allowed, by its bill of materials: GPL-3.0-only", false},
		"one unknown":        {Licences{Billed: []string{"MIT"}, Unlicensed: []string{"left-pad"}}, "left-pad", false},
		"one unknown, early": {Licences{Billed: []string{"MIT"}, Unlicensed: []string{"left-pad"}, AllowUnknown: true}, "left-pad", true},
		"no bill":            {Licences{}, "no bill of materials", false},
		"no bill, early":     {Licences{AllowUnknown: true}, "no bill of materials", true},
	} {
		test.policy.Allow = Permissive
		got := Run(t.Context(), Instance{Executable: file}, Suite{Licences: &test.policy})[0]
		if got.Passed != test.passed || !strings.Contains(got.Reason, test.reason) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
