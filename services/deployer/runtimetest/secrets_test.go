//go:build linux

package runtimetest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSecretsInTheFileThatRuns(t *testing.T) {
	// Written in two halves, so that no scanner takes this file for one that holds keys.
	aws, github := "AKI"+"AQ3EGRXZ7LMNB4WPD", "gh"+"p_"+strings.Repeat("aB3d", 9)
	google := "AI" + "za" + strings.Repeat("Sy-_7", 7)
	block := "-----BEGIN " + "PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----"
	for _, test := range []struct{ name, content, reason string }{
		{"none", "ELF" + strings.Repeat("x", 1000), ""},
		{"names alone", "-----BEGIN " + "PRIVATE KEY-----%s AKI" + "A ghp_ sk_live_ AKIA" + "IOSFODNN7EXAMPLE", ""},
		{"between other constants", "headers" + aws + "WPD3725", "an access key of AWS at byte 7"},
		{"Google", "of" + google + "and", "a key of Google at byte 2"},
		{"within base64", strings.Repeat("dG9v", 100) + google + strings.Repeat("bG9u", 100), ""},
		{"within base64, where a chunk begins", strings.Repeat("dG9v", (longRun+secretChunk)/4) + google + strings.Repeat("bG9u", 1000), ""},
		{"a list of words in capitals", "ARTSASHES" + "ASI" + "AASKSATOMAUNTAURAAUTOAVERAVID", ""},
		{"the last of a list in capitals", "ARTSASHES" + "ASI" + "AASKSATOMAUNTAURA\x00", ""},
		{"the first of a list in capitals, where a chunk begins", strings.Repeat("\x00", longRun+secretChunk-1) + "X" + "ASI" + "AASKSATOMAUNTAURA\x00", ""},
		{"AWS without a digit", "=" + "AKI" + "AQWEGRXZBLMNBHWPD\n", "an access key of AWS at byte 1"},
		{"within base32", strings.Repeat("MFRGGZDF", 20) + aws + strings.Repeat("ONXW2ZJA", 20), ""},
		{"Stripe", "deadline" + "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc", "a live key of Stripe at byte 8"},
		{"names behind Stripe's word", "deadline" + "sk_" + "live_" + "rk_" + "live_nullableRequiredexamples/content", ""},
		{"names behind GitHub's word", "gh" + "p_" + strings.Repeat("nameMark", 9), ""},
		{"prose behind a key's first line", "-----BEGIN " + "PRIVATE KEY-----\nthe key of the server can not be read: is it one, and of which kind, and whose", ""},
		{"names behind a key's first line", "-----BEGIN " + "PRIVATE KEY-----\n" + strings.Repeat("unmarshalPrivateKeyNamed", 9), ""},
		{"a key's first line and its last", "-----BEGIN " + "PRIVATE KEY-----\n-----END " + "PRIVATE KEY-----\n" + strings.Repeat("and more ", 20), ""},
		{"a key with a password", "-----BEGIN " + "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF\n\n" + strings.Repeat("q8Jz+/", 20), "a private key at byte 0"},
		{"a key of OpenPGP", "-----BEGIN " + "PGP PRIVATE KEY BLOCK-----\n\nlFgEZ" + strings.Repeat("q8Jz+/", 20), "a private key at byte 0"},
		{"a key in JSON", `"private_key": "` + strings.ReplaceAll(block, "\n", `\n`) + `\n"`, "a private key at byte 16"},
		{"AWS", "\x00" + aws + "\x00", "an access key of AWS at byte 1"},
		{"GitHub", " " + github + " ", "a token of GitHub at byte 1"},
		{"a key", "abc\x00" + block, "a private key at byte 4"},
		{"where two chunks meet", strings.Repeat("\x00", longRun+secretChunk+secretOverlap-10) + aws + "\x00", "an access key of AWS at byte 1049654"},
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

// Constants of this very program lie side by side in its file, as those of any program of Go.
func TestSecretsOfACompiledProgram(t *testing.T) {
	const one, other = "AKI" + "AZ7Q2NNXW5LMC3EVB", "gh" + "p_" + "7vKq2LmX9sTbR4wYzA1dF6gH8jN3pQ5uC0eI"
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{} // fingerprints
	for _, form := range secretForms {
		for _, key := range form.in(file) {
			found[key.fingerprint] = true
		}
	}
	for _, key := range []string{one, other} {
		if sum := sha256.Sum256([]byte(key)); !found[hex.EncodeToString(sum[:8])] {
			t.Errorf("%s… is not found", key[:4])
		}
	}
	for _, program := range []string{"go", "git"} {
		file, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if all := Run(t.Context(), Instance{Executable: file}, Suite{Secrets: &Secrets{}}); !all[0].Passed {
			t.Errorf("%s: %s", program, all[0].Reason)
		}
	}
}

// A file may hold any number of keys; few are kept.
func TestFewOfManyKeysAreKept(t *testing.T) {
	found, err := keysOf(strings.NewReader(strings.Repeat("gh"+"p_"+strings.Repeat("aB3d", 9)+"\n", 1000)), nil)
	if err != nil || found.count != 1000 || len(found.first) != mostNamed {
		t.Errorf("%d, of which %d are kept: %v", found.count, len(found.first), err)
	}
}

// A key has one fingerprint, whatever stands behind it.
func TestAFingerprintIsTheKeysAlone(t *testing.T) {
	key := "-----BEGIN " + "OPENSSH PRIVATE KEY-----\n" + strings.Repeat("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n", 3) + "-----END OPENSSH PRIVATE KEY-----"
	slack := "xo" + "xb-123456789012-" + strings.Repeat("aB3d", 5)
	for _, form := range []int{0, 4} {
		text := []string{key, "", "", "", slack}[form]
		alone, among := secretForms[form].in([]byte(text)), secretForms[form].in([]byte(text+"\nmore"))
		if len(alone) != 1 || len(among) != 1 || alone[0] != among[0] {
			t.Errorf("%s: %v alone, %v among others", secretForms[form].name, alone, among)
		}
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
