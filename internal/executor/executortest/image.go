// Package executortest makes images for tests on machines that can pull none: of this machine's own programs.
package executortest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Programs are what every image has, beside the test's own program as /test.
var Programs = []string{"sh", "awk", "cat", "env", "head", "id", "ls", "mkdir", "rm", "seq", "setsid", "sleep", "sort", "touch", "yes"}

// Engine is the container engine of this machine. Without one the test is skipped, loudly.
func Engine(t testing.TB) *client.Client {
	t.Helper()
	api, err := client.New(client.FromEnv)
	if err == nil {
		_, err = api.Info(t.Context(), client.InfoOptions{})
	}
	if err != nil {
		t.Skipf("SKIPPED: no container engine answers (%v): steps with images and services were NOT tried", err)
	}
	t.Cleanup(func() { _ = api.Close() })
	return api
}

// Through is where the engine is reached past somebody who may answer instead of it: as DOCKER_HOST.
func Through(t testing.TB, instead func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	to, err := client.ParseHostURL(Engine(t).DaemonHost())
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "") //nolint:usetesting // the test's own may be too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	at := filepath.Join(folder, "engine.sock")
	listener, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, to.Scheme, to.Host+to.Path)
		}},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !instead(w, r) {
			pass.ServeHTTP(w, r)
		}
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	return "unix://" + at
}

// Image makes an image with Programs, changed by lines of a Dockerfile, and returns its name; it goes with the test.
func Image(t testing.TB, changes ...string) string {
	t.Helper()
	name := fresh()
	Replace(t, name, changes...)
	return name
}

// Replace makes an image as Image does, under a name that another may have had.
func Replace(t testing.TB, name string, changes ...string) {
	t.Helper()
	api := Engine(t)
	files, err := archive()
	if err != nil {
		t.Fatal(err)
	}
	load(t, api, name, files, changes)
}

// Empty makes an image without files.
func Empty(t testing.TB) string {
	t.Helper()
	name := fresh()
	load(t, Engine(t), name, make([]byte, 1024), nil)
	return name
}

func fresh() string { return fmt.Sprintf("lemnis-test/%s:1", strings.ToLower(rand.Text())) }

func load(t testing.TB, api *client.Client, name string, files []byte, changes []string) {
	t.Helper()
	said, err := api.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(files), SourceName: "-"}, name, client.ImageImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = said.Close() }()
	if text, err := io.ReadAll(said); err != nil || bytes.Contains(text, []byte(`"error"`)) {
		t.Fatalf("import an image: %s %v", text, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if _, err := api.ImageRemove(ctx, name, client.ImageRemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("remove %s: %v", name, err)
		}
	})
}

var libraries = regexp.MustCompile(`/[^ )]+`)

// archive holds the programs, and the libraries that they are linked with.
var archive = sync.OnceValues(func() ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	files := map[string]string{"/test": self} // place in the image to place here
	for _, name := range Programs {
		at, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		files["/bin/"+name] = at
	}
	for _, at := range []string{self, files["/bin/awk"], files["/bin/ls"], files["/bin/sh"], files["/bin/sort"]} {
		needs, _ := exec.Command("ldd", at).Output() // fails for what needs none
		for _, library := range libraries.FindAllString(string(needs), -1) {
			files[library] = library
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return nil, err
	}
	for to, from := range files {
		if from, err = filepath.EvalSymlinks(from); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: to[1:], Mode: 0o755, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
})
