package conformance

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/gateway/registry"
)

const suite = "github.com/opencontainers/distribution-spec/conformance"

// declined are the calls of the suite that the specification leaves to a registry, and that this one does not do.
var declined = map[string]string{
	"OCI_API_BLOBS_MOUNT_ANONYMOUS": "a blob is taken over only from a repository that the client names and may read",
	"OCI_DATA_SPARSE":               "a manifest that names what is not there could not be pulled",
}

// The conformance suite of the OCI distribution specification against the embedded registry, with all that the specification
// has in it: pull, push, content discovery, content management. Run once more without deleting, it leaves contents, which
// are found again by a registry that starts on the same folder.
func TestDistribution(t *testing.T) {
	program := buildSuite(t)
	dir := t.TempDir()
	host := serve(t, dir)
	for name, why := range declined {
		t.Logf("not asked for: %s: %s", name, why)
	}
	judge(t, run(t, program, host, "shop/one", "shop/two"), 650)
	if before := answers(t, host); len(before) != 1 {
		t.Errorf("all was deleted, and this is there: %v", before)
	}
	judge(t, run(t, program, host, "shop/one", "shop/two",
		"OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_TAGS_DELETE=false"), 450)
	before := answers(t, host)
	if len(before) < 40 {
		t.Fatalf("%d answers to be found again", len(before))
	}
	after := answers(t, serve(t, dir))
	if len(after) != len(before) {
		t.Errorf("%d answers before and %d after a restart", len(before), len(after))
	}
	for what, was := range before {
		if after[what] != was {
			t.Errorf("%s changed by a restart:\n%s\n%s", what, was, after[what])
		}
	}
	t.Logf("%d answers were the same after a restart", len(before))
}

// run runs the suite and returns its JUnit report.
func run(t *testing.T, program, host, one, two string, more ...string) (report string) {
	t.Helper()
	results := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = results
	cmd.Env = append(os.Environ(), "OCI_REGISTRY="+host, "OCI_TLS=disabled", "OCI_REPO1="+one, "OCI_REPO2="+two, "OCI_VERSION=1.1",
		"OCI_RESULTS_DIR="+results, "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_UPLOAD_CANCEL=true")
	for name := range declined {
		cmd.Env = append(cmd.Env, name+"=false")
	}
	cmd.Env = append(cmd.Env, more...)
	out, err := cmd.CombinedOutput()
	_, verdict, _ := strings.Cut(string(out), "OCI Conformance Result:")
	if err != nil || !strings.HasPrefix(strings.TrimSpace(verdict), "Pass") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("OCI Conformance Result:%s", verdict)
	return filepath.Join(results, "junit.xml")
}

func buildSuite(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "conformance")
	if out, err := exec.Command("go", "build", "-o", program, suite).CombinedOutput(); err != nil {
		t.Skipf("NOT PROVED: that the registry is conformant: the suite %s cannot be built: %v\n%s", suite, err, out)
	}
	return program
}

func serve(t *testing.T, dir string) (host string) {
	t.Helper()
	reg, err := registry.New(dir, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// judge reports each test of the suite that did not pass, those that were skipped too.
func judge(t *testing.T, file string, least int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Name   string `xml:"name,attr"`
				Status string `xml:"status,attr"`
				Err    string `xml:"system-err"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			counts[c.Status]++
			switch {
			case c.Status == "passed" || c.Status == "disabled":
			case c.Status == "skipped" && strings.Contains(c.Err, "is disabled in the configuration"):
				counts["declined"]++
			default:
				t.Errorf("%s: %s\n%s", c.Name, c.Status, c.Err)
			}
		}
	}
	t.Logf("tests of the suite: %v", counts)
	if counts["passed"] < least {
		t.Errorf("%d tests passed; the suite has more", counts["passed"])
	}
}

// answers are what a registry answers about all that it holds, by the question.
func answers(t *testing.T, host string) map[string]string {
	t.Helper()
	all := map[string]string{}
	ask := func(path string, into any) {
		resp, err := http.Get("http://" + host + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = resp.Status + " " + resp.Header.Get("Docker-Content-Digest") + " " + string(body)
		if into != nil {
			if err := json.Unmarshal(body, into); err != nil {
				t.Fatal(err)
			}
		}
	}
	var catalog struct{ Repositories []string }
	ask("/v2/_catalog", &catalog)
	for _, name := range catalog.Repositories {
		var list struct{ Tags []string }
		ask("/v2/"+name+"/tags/list", &list)
		for _, tag := range list.Tags {
			var m struct {
				Layers []struct{ Digest string }
			}
			ask("/v2/"+name+"/manifests/"+tag, &m)
			_, rest, _ := strings.Cut(all["/v2/"+name+"/manifests/"+tag], "sha256:")
			ask("/v2/"+name+"/referrers/sha256:"+rest[:64], nil)
			for _, l := range m.Layers {
				ask("/v2/"+name+"/blobs/"+l.Digest, nil)
			}
		}
	}
	return all
}
