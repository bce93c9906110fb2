package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var commit = time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)

// save is an image as an engine saves it: one layer of the headers, in their order, and what is of one build only.
func save(t *testing.T, build string, at time.Time, headers ...tar.Header) string {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = "the text of a file"
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	i, err := mutate.Append(empty.Image, mutate.Addendum{Layer: l, History: v1.History{CreatedBy: "RUN make", Created: v1.Time{Time: at}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.Architecture, c.OS, c.Created, c.Container = "amd64", "linux", v1.Time{Time: at}, build
	c.Config = v1.Config{Hostname: build, Image: build, Cmd: []string{"/a"}, Env: []string{"A=b"}}
	if i, err = mutate.ConfigFile(i, c); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "saved.tar")
	tag, err := name.NewTag("test/" + build)
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, i); err != nil {
		t.Fatal(err)
	}
	return file
}

func reproduce(t *testing.T, saved string, began time.Time) (Made, string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "image.tar")
	made, err := Reproduce(t.Context(), saved, to, Options{Created: commit, Began: began})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(to)); len(left) != 1 {
		t.Errorf("left beside the archive: %v", left)
	}
	text, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return made, string(text)
}

// What differs between two builds of one commit is not in the image: times, order, which name of a file came first, ids and host names.
func TestTwoBuildsGiveTheSameImage(t *testing.T) {
	t.Parallel()
	old := commit.Add(-time.Hour)
	build := func(id string, at time.Time) (Made, string) {
		dir := tar.Header{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o755, ModTime: at}
		file := tar.Header{Typeflag: tar.TypeReg, Name: "dir/a", Mode: 0o4755, ModTime: at, AccessTime: at, ChangeTime: at, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}
		link := tar.Header{Typeflag: tar.TypeLink, Name: "dir/b", Linkname: "dir/a", Mode: 0o4755, ModTime: at}
		soft := tar.Header{Typeflag: tar.TypeSymlink, Name: "soft", Linkname: "dir/a", ModTime: at}
		hard := tar.Header{Typeflag: tar.TypeLink, Name: "a-soft", Linkname: "soft", ModTime: at}
		base := tar.Header{Typeflag: tar.TypeReg, Name: "old", Mode: 0o644, ModTime: old}
		if id == "two" { // the other name came first
			file.Name, link.Name, link.Linkname = link.Name, file.Name, link.Name
			return reproduce(t, save(t, id, at, base, dir, file, link, soft, hard), at.Add(-time.Minute))
		}
		return reproduce(t, save(t, id, at, dir, soft, hard, file, link, base), at.Add(-time.Minute))
	}
	made, one := build("one", commit.Add(time.Hour))
	again, two := build("two", commit.Add(2*time.Hour))
	if made != again || one != two {
		t.Fatalf("%+v and %+v", made, again)
	}
	if early, _ := build("early", commit.Add(-10*time.Minute)); early != made {
		t.Errorf("built before the time that its commit says: %+v, else %+v", early, made)
	}
}

func TestTheImageKeepsWhatItIsAbout(t *testing.T) {
	t.Parallel()
	at := commit.Add(time.Hour)
	made, text := reproduce(t, save(t, "one", at,
		tar.Header{Typeflag: tar.TypeReg, Name: "dir/a", Mode: 0o4755, Uid: 7, Gid: 8, ModTime: at, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}},
		tar.Header{Typeflag: tar.TypeReg, Name: "old", Mode: 0o644, ModTime: commit.Add(-time.Hour)},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "../../etc/passwd", ModTime: at},
	), at)
	if !strings.HasPrefix(made.ID, "sha256:") || made.Size < 100 {
		t.Errorf("%+v", made)
	}
	for _, part := range []string{`"created":"2023-11-14T22:13:20Z"`, `"created_by":"RUN make"`, `"Cmd":["/a"]`, `"Env":["A=b"]`, "application/vnd.oci.image.config.v1+json"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s", part)
		}
	}
	for _, part := range []string{`"one"`, "docker_version", "Hostname", "2023-11-14T23"} {
		if strings.Contains(text, part) {
			t.Errorf("holds %s", part)
		}
	}
	file := filepath.Join(t.TempDir(), "spool")
	spool, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = spool.Close() }()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./b", Mode: 0o4755, Uid: 7, ModTime: at, PAXRecords: map[string]string{"SCHILY.xattr.a": "x"}})
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", ModTime: commit.Add(-time.Hour)})
	_ = w.Close()
	entries, err := (Options{Created: commit, Began: at}).list(&layer, spool, mostHeld)
	if err != nil || len(entries) != 2 || entries[0].name != "a" {
		t.Fatalf("%v, %v", entries, err)
	}
	if h := entries[1].header; h.Mode != 0o4755 || h.Uid != 7 || !h.ModTime.Equal(commit) || h.PAXRecords["SCHILY.xattr.a"] != "x" {
		t.Errorf("%+v", h)
	}
	if h := entries[0].header; !h.ModTime.Equal(commit.Add(-time.Hour)) {
		t.Errorf("a file of a base image has another time: %v", h.ModTime)
	}
}

func TestBasesAreReadWithoutAnEngine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"FROM scratch": "", "from debian:12 as Build\nFROM build\nCOPY --from=build a b\nCOPY --from=0 a b\nCOPY --from=busybox:1 /bin /bin": "debian:12 busybox:1",
		"ARG V=1\nARG OTHER\nFROM --platform=linux/amd64 a:${V}\nARG V=2\nFROM b:${OTHER:-x}": "a:1 b:x",
		"# escape=`\nARG BASE\n# FROM no\nFROM `\n  $BASE":                                    "given",
		"FROM a AS one\nFROM b AS two\nFROM c AS three":                                       "a b",
		"FROM a\nRUN echo \\\n  FROM b\n":                                                     "a",
	} {
		d := Read([]byte(text), map[string]string{"BASE": "given"}, "two")
		if got := strings.Join(d.Bases, " "); got != want {
			t.Errorf("%s\n got %q, want %q", text, got, want)
		}
	}
	if d := Read([]byte("FROM a\nARG SOURCE_DATE_EPOCH\n"), nil, ""); !d.Declares["SOURCE_DATE_EPOCH"] || d.Declares["V"] {
		t.Errorf("%+v", d)
	}
}

// An engine fetches what ADD says with its own host's network, whatever the build's is.
func TestADockerfileThatFetchesPastItsNetworkIsRefused(t *testing.T) {
	t.Parallel()
	for text, refused := range map[string]bool{
		"FROM a\nADD http://b/c /":                             true,
		"FROM a\nadd --chown=1:2 https://b/c /":                true,
		"FROM a\nADD [\"a\", \"\\u0068ttp\\u003a//b\", \"/\"]": true,
		"FROM a\nADD h\"tt\"p://b /":                           true,
		"FROM a\nARG B\nADD $B /":                              true,
		"FROM a\nADD git@b:c.git /":                            true,
		"FROM a\nAD\\\nD \\\n# no\n\nhttp://b /":               true,
		"FROM a AS b\nONBUILD ADD http://b /\nFROM b":          true,
		"# syntax=x\n# escape=`\nFROM a\nADD `\nhttp://b /":    true,
		"# syntax=x\n# escape=`\nFROM a\nADD \\\nhttp://b /":   true,
		"FROM a\nADD \\\nhttp://b /":                           true,
		"FROM ${A%b}":                                          true,
		"FROM $NONE":                                           true,
		"FROM a\nCOPY --from=\"b\" a /":                        true,
		"FROM a\nADD a b/*.txt --x=y /":                        false,
		"FROM a\nADD --chown=$A:1 a /":                         false,
		"FROM a\n# ADD http://b /\nRUN echo \\\nADD http://b":  false,
		"FROM a\nADD [\"a b\", \"/\"]":                         false,
		"FROM a\nCOPY $B --from=0 /":                           false,
	} {
		if d := Read([]byte(text), nil, ""); errors.Is(d.Refused, ErrDockerfile) != refused {
			t.Errorf("%s: %v", text, d.Refused)
		}
	}
	for trigger, refused := range map[string]bool{"ADD http://b /": true, "COPY --from=b a /": true, "COPY . /": false, "RUN make": false} {
		if err := Triggers([]string{"RUN true", trigger}); errors.Is(err, ErrDockerfile) != refused {
			t.Errorf("%s: %v", trigger, err)
		}
	}
	if d := Read([]byte("\ufeff# syntax=x\n# escape=`\nFROM `\na"), nil, ""); fmt.Sprint(d.Bases) != "[a]" {
		t.Errorf("%v", d.Bases)
	}
}

// A variable that holds the one before it twice is small in the Dockerfile, and without end in memory.
func TestVariablesThatDoubleAreRefused(t *testing.T) { //nolint:paralleltest // it counts what is allocated
	const doublings = 24 // to 32 MiB
	text := "ARG A0=xx\n"
	for i := range doublings {
		text += fmt.Sprintf("ARG A%d=$A%d${A%d:-x}\n", i+1, i, i)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d := Read([]byte(text+"FROM a\n"), nil, "")
	runtime.ReadMemStats(&after)
	if !errors.Is(d.Refused, ErrDockerfile) || !strings.Contains(d.Refused.Error(), "the values of its variables, wherever they are used, have more than 1048576 bytes") {
		t.Errorf("%v", d.Refused)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("it takes %d bytes", took)
	}
	// FROM is where they are used too.
	text = "ARG A=" + strings.Repeat("x", 1<<10) + "\n"
	if d := Read([]byte(text+strings.Repeat("FROM a:$A\n", 1<<10)), nil, ""); d.Refused != nil {
		t.Errorf("values of 1 MiB: %v", d.Refused)
	}
	if d := Read([]byte(text+strings.Repeat("FROM a:$A\n", 1<<10+1)), nil, ""); !errors.Is(d.Refused, ErrDockerfile) {
		t.Errorf("more: %v", d.Refused)
	}
}

func TestADockerfileOfTooManyImagesIsRefused(t *testing.T) {
	t.Parallel()
	for form, extra := range map[string]string{"FROM a:%d\n": "", "COPY --from=a:%d b /\n": "FROM scratch\n"} {
		text := extra
		for i := range mostBases {
			text += fmt.Sprintf(form, i)
		}
		if d := Read([]byte(text+"FROM a:0\n"), nil, ""); d.Refused != nil || len(d.Bases) != mostBases { // one of them another time
			t.Errorf("%d images: %d, %v", mostBases, len(d.Bases), d.Refused)
		}
		for i := range 1000 {
			text += fmt.Sprintf(form, mostBases+i)
		}
		d := Read([]byte(text), nil, "")
		if !errors.Is(d.Refused, ErrDockerfile) || !strings.Contains(d.Refused.Error(), "it is made of more than 100 images") || len(d.Bases) > mostBases+1 {
			t.Errorf("%s: %d images, %v", form, len(d.Bases), d.Refused)
		}
	}
}

func tree(t *testing.T, files ...string) (*os.Root, []string) {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for _, f := range files {
		name, text, _ := strings.Cut(f, "|")
		names = append(names, name)
		at := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(at), 0o700)
		if to, is := strings.CutPrefix(text, "-> "); is && err == nil {
			err = os.Symlink(to, at)
		} else if err == nil {
			err = os.WriteFile(at, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, names
}

func TestContextHoldsWhatItIsSaidTo(t *testing.T) {
	t.Parallel()
	files := []string{"Dockerfile|FROM scratch", "deploy/Dockerfile|FROM other", "app/a|x", "app/b.log|x", "app/deep/c|x", "app/link|-> ../../../etc/passwd", "app/.dockerignore|*.log", "b|x"}
	for want, c := range map[string]Context{
		"Dockerfile: app/ app/.dockerignore app/a app/b.log app/deep/ app/deep/c app/link b deploy/ deploy/Dockerfile Dockerfile":        {Dockerfile: "Dockerfile"},
		".lemnis.Dockerfile: a deep/ deep/c link .dockerignore .lemnis.Dockerfile":                                                       {Dockerfile: "deploy/Dockerfile", Folder: "app/"},
		"deploy/Dockerfile: Dockerfile app/ app/.dockerignore app/a app/b.log app/deep/ app/deep/c app/link b deploy/ deploy/Dockerfile": {Dockerfile: "deploy/Dockerfile"},
	} {
		c.Root, c.Paths = tree(t, append(files, "untracked|x")...)
		c.Paths, c.Time = slices.DeleteFunc(c.Paths, func(n string) bool { return n == "untracked" }), commit
		var archive bytes.Buffer
		dockerfile, err := c.Write(t.Context(), &archive)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for r := tar.NewReader(&archive); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			names = append(names, h.Name)
			if text, _ := io.ReadAll(r); !h.ModTime.Equal(commit) || h.Uid != 0 || h.Typeflag == tar.TypeReg && h.Mode != 0o644 || strings.Contains(string(text), "root:") {
				t.Errorf("%+v: %s", h, text)
			}
		}
		if got := fmt.Sprintf("%s: %s", dockerfile, strings.Join(names, " ")); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}

// What a step leaves where the engine's own files are is not taken, and one that makes a pipe holds up nobody.
func TestContextIsOfWhatBelongsToIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ pipe, want string }{
		"Dockerfile":    {"Dockerfile", "is no file of at most"},
		".dockerignore": {".dockerignore", "is no file of at most"},
	} {
		root, names := tree(t, "other|x", "Dockerfile|FROM scratch")
		if name != "Dockerfile" {
			names = append(names, name)
		}
		at := filepath.Join(root.Name(), c.pipe)
		_ = os.Remove(at)
		if err := syscall.Mkfifo(at, 0o600); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := Context{Root: root, Dockerfile: "Dockerfile", Paths: names, Time: commit}.Write(t.Context(), io.Discard)
			ended <- err
		}()
		select {
		case err := <-ended:
			if !errors.Is(err, ErrContext) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it waits for somebody to write", name)
			if w, err := os.OpenFile(at, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				_ = w.Close()
			}
		}
	}
	root, _ := tree(t, "Dockerfile|FROM scratch", "a|x", ".dockerignore|a")
	var archive bytes.Buffer
	if _, err := (Context{Root: root, Dockerfile: "Dockerfile", Paths: []string{"Dockerfile", "a"}, Time: commit}).Write(t.Context(), &archive); err != nil || strings.Contains(archive.String(), ignoreFile) {
		t.Errorf("a .dockerignore that no commit has is honoured, or: %v", err)
	}
	if _, err := (Context{Root: root, Dockerfile: "Dockerfile", Paths: []string{"a"}, Time: commit}).Write(t.Context(), io.Discard); !errors.Is(err, ErrContext) {
		t.Errorf("a Dockerfile that no commit has: %v", err)
	}
}

// Each pattern is held against each file.
func TestPatternsOfDockerignoreAreBounded(t *testing.T) {
	t.Parallel()
	const refused = ".dockerignore has more than 1000 patterns, or one of more than 1000 bytes"
	for name, c := range map[string]struct{ text, want string }{
		"many":         {strings.Repeat("b\n", mostPatterns), ""},
		"too many":     {strings.Repeat("b\n", mostPatterns+1), refused},
		"a long one":   {"b\n" + strings.Repeat("x", mostPattern), ""},
		"one too long": {"b\n" + strings.Repeat("x", mostPattern+1), refused},
	} {
		root, names := tree(t, "Dockerfile|FROM scratch", "a|x", ".dockerignore|"+c.text)
		_, err := Context{Root: root, Dockerfile: "Dockerfile", Paths: names, Time: commit}.Write(t.Context(), io.Discard)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrContext) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestAContextThatIsCancelledIsNotWrittenOn(t *testing.T) {
	t.Parallel()
	root, names := tree(t, "a|first", "b|second", "Dockerfile|FROM scratch")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var archive bytes.Buffer
	_, err := Context{Root: root, Dockerfile: "Dockerfile", Paths: names, Time: commit}.Write(ctx, writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("first")) {
			cancel()
		}
		return archive.Write(p)
	}))
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrContext) || !strings.Contains(archive.String(), "first") || strings.Contains(archive.String(), "second") {
		t.Errorf("%v, of %q", err, archive.String())
	}
	if sums, err := SumsOf(ctx, root, slices.Values(names)); !errors.Is(err, context.Canceled) {
		t.Errorf("%d sums, %v", len(sums), err)
	}
}

// A step that changes what the commit has makes another image where it is run than where its result is taken.
func TestWhatIsNotAsTheCommitHasItIsRefused(t *testing.T) {
	t.Parallel()
	write := func(name, text string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	again := func(name string, do func(at string) error) func(dir string) error {
		return func(dir string) error {
			at := filepath.Join(dir, name)
			return errors.Join(os.Remove(at), do(at))
		}
	}
	for name, c := range map[string]struct {
		change func(dir string) error
		file   string // which is refused
	}{
		"nothing":             {func(string) error { return nil }, ""},
		"the same text again": {again("app/a", func(at string) error { return os.WriteFile(at, []byte("x"), 0o640) }), ""},
		"a new file":          {write("app/new", "x"), ""},
		"what is ignored":     {write("app/log.txt", "y"), ""},
		"another text":        {write("app/a", "y"), "app/a"},
		"more text":           {write("app/a", "xx"), "app/a"},
		"it can be run":       {func(dir string) error { return os.Chmod(filepath.Join(dir, "app", "a"), 0o700) }, "app/a"},
		"it is gone":          {again("app/a", func(string) error { return nil }), "app/a"},
		"it is a link":        {again("app/a", func(at string) error { return os.Symlink("x", at) }), "app/a"},
		"it is a pipe":        {again("app/a", func(at string) error { return syscall.Mkfifo(at, 0o600) }), "app/a"},
		"it is a folder":      {again("app/a", func(at string) error { return os.Mkdir(at, 0o700) }), "app/a"},
		"its folder is a file": {func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "app")), write("app", "x")(dir))
		}, "app/a"},
		"a link leads elsewhere":  {again("link", func(at string) error { return os.Symlink("elsewhere", at) }), "link"},
		"the Dockerfile":          {write("Dockerfile", "FROM other"), "Dockerfile"},
		"what says what is taken": {write(".dockerignore", ""), ".dockerignore"},
	} {
		root, names := tree(t, "Dockerfile|FROM scratch", "app/a|x", "app/log.txt|x", "link|-> app", ".dockerignore|**/*.txt")
		as, err := SumsOf(t.Context(), root, slices.Values(append(names, "none")))
		if err != nil || len(as) != len(names) {
			t.Fatalf("%d sums, %v", len(as), err)
		}
		if err := c.change(root.Name()); err != nil {
			t.Fatal(err)
		}
		from := Context{Root: root, Dockerfile: "Dockerfile", Paths: names, Time: commit, As: as}
		_, err = from.Write(t.Context(), io.Discard)
		want := c.file + " is not as it was before the steps: the step that changes it has to name it under outputs"
		if c.file == "" && err != nil || c.file != "" && (!errors.Is(err, ErrContext) || !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
		delete(from.As, c.file)
		if _, err := from.Write(t.Context(), io.Discard); err != nil {
			t.Errorf("%s, which is told: %v", name, err)
		}
	}
	root, names := tree(t, "Dockerfile|FROM scratch")
	as, err := SumsOf(t.Context(), root, slices.Values(names))
	if err == nil {
		err = write("Dockerfile", "FROM other")(root.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Context{Root: root, Dockerfile: "Dockerfile", Paths: names, Time: commit, As: as}).Text(); !errors.Is(err, ErrContext) || !strings.Contains(err.Error(), "Dockerfile is not as it was") {
		t.Errorf("the Dockerfile is read: %v", err)
	}
}

// What a step puts in the way of a file of the commit changes that file too, and its result may not be taken another time.
func TestWhatIsInTheWayOfTheCommitsFilesIsAChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		folder string
		change func(dir string) error
		file   string
	}{
		"no Dockerfile": {".", func(dir string) error { return os.Remove(filepath.Join(dir, "Dockerfile")) }, "Dockerfile"},
		"a folder for the Dockerfile": {".", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "Dockerfile")), os.Mkdir(filepath.Join(dir, "Dockerfile"), 0o700))
		}, "Dockerfile"},
		"a link out": {".", func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "app")), os.Symlink("/", filepath.Join(dir, "app")))
		}, "app/.dockerignore"},
		"all is taken, of a folder": {"app", func(dir string) error { return os.Remove(filepath.Join(dir, "app", ".dockerignore")) }, "app/.dockerignore"},
		"a link to what says is ignored": {"app", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "app", ".dockerignore")), os.Symlink("a", filepath.Join(dir, "app", ".dockerignore")))
		}, "app/.dockerignore"},
	} {
		root, names := tree(t, "Dockerfile|FROM scratch", "app/a|x", "app/.dockerignore|a")
		as, err := SumsOf(t.Context(), root, slices.Values(names))
		if err == nil {
			err = c.change(root.Name())
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = Context{Root: root, Folder: c.folder, Dockerfile: "Dockerfile", Paths: names, Time: commit, As: as}.Write(t.Context(), io.Discard)
		if !errors.Is(err, ErrContext) || !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), c.file+" is not as it was") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing outside of the checkout is read, whatever its links and the pipeline say.
func TestContextStaysInTheTree(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Context{
		"the Dockerfile is a link":    {Dockerfile: "link"},
		"the folder is a link":        {Dockerfile: "Dockerfile", Folder: "folder"},
		".dockerignore is a link":     {Dockerfile: "Dockerfile", Folder: "ignored"},
		"a file behind a link":        {Dockerfile: "Dockerfile", Paths: []string{"folder/secret"}},
		"there is no Dockerfile":      {Dockerfile: "none"},
		"the Dockerfile is a folder":  {Dockerfile: "ignored"},
		"the folder is a file":        {Dockerfile: "Dockerfile", Folder: "Dockerfile"},
		"the pipeline leads out":      {Dockerfile: "../secret"},
		"the pipeline names the root": {Dockerfile: outside},
	} {
		var names []string
		c.Root, names = tree(t, "Dockerfile|FROM scratch", "link|-> "+outside, "folder|-> "+filepath.Dir(outside), "ignored/.dockerignore|-> "+outside)
		c.Paths = append(c.Paths, names...)
		var archive bytes.Buffer
		if _, err := c.Write(t.Context(), &archive); !errors.Is(err, ErrContext) || strings.Contains(archive.String(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rewriteAll rewrites layers, the lowest first, as far as they are taken.
func rewriteAll(t *testing.T, below *stack, layers ...[]tar.Header) error {
	t.Helper()
	spool, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = spool.Close() }()
	for _, headers := range layers {
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := (Options{Created: commit, Began: commit}).rewrite(t.Context(), &layer, spool, io.Discard, below); err != nil {
			return err
		}
	}
	return nil
}

// What readers of layers take for different things, or would lose, is refused.
func TestLayersThatAreNotWhatTheySayAreRefused(t *testing.T) {
	t.Parallel()
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
	link := func(name, to string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to} }
	long := file("d/.wh.x")
	long.Size = 1
	below := []tar.Header{dir("d/"), file("d/x"), file("deep/in/y")}
	for name, c := range map[string]struct {
		layer []tar.Header
		taken bool
	}{
		"an engine removes a file":                 {[]tar.Header{file("d/.wh.x")}, true},
		"an engine removes a folder without entry": {[]tar.Header{file(".wh.deep")}, true},
		"an engine replaces all of a folder":       {[]tar.Header{dir("d/"), file("d/.wh..wh..opq"), file("d/.wh.x"), file("d/x")}, true},
		"an engine makes a folder":                 {[]tar.Header{dir("new/"), file("new/.wh..wh..opq")}, true},
		"a folder twice":                           {[]tar.Header{dir("d/"), dir("./d/")}, true},
		"nothing is removed":                       {[]tar.Header{file("d/.wh.y")}, false},
		"nothing is removed, in no folder":         {[]tar.Header{file("none/at/.wh.all")}, false},
		"what the layer itself has":                {[]tar.Header{file("new"), file(".wh.new")}, false},
		"the root":                                 {[]tar.Header{file(".wh..wh..opq")}, false},
		"no name":                                  {[]tar.Header{file("d/.wh.")}, false},
		"the folder":                               {[]tar.Header{file("d/.wh..")}, false},
		"the folder above":                         {[]tar.Header{file("d/.wh...")}, false},
		"another of aufs":                          {[]tar.Header{file(".wh..wh.plnk")}, false},
		"with content":                             {[]tar.Header{long}, false},
		"a folder of such a name":                  {[]tar.Header{dir("d/.wh.x/")}, false},
		"in a folder of such a name":               {[]tar.Header{file(".wh.d/x")}, false},
		"another name of one":                      {[]tar.Header{file("d/.wh.x"), link("b", "d/.wh.x")}, false},
		"one that is another name":                 {[]tar.Header{file("a"), link("d/.wh.x", "a")}, false},
		"a file twice":                             {[]tar.Header{file("a"), link("b", "a"), file("a")}, false},
		"a name of a file of another layer":        {[]tar.Header{link("b", "d/x")}, false},
		"an unknown type":                          {[]tar.Header{{Typeflag: tar.TypeCont, Name: "a"}}, false},
	} {
		err := rewriteAll(t, newStack(t.TempDir()), below, c.layer)
		if c.taken && err != nil || !c.taken && !errors.Is(err, ErrLayer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := fit(&tar.Header{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{"GNU.sparse.major": "1"}}); !errors.Is(err, ErrLayer) {
		t.Errorf("a sparse file: %v", err)
	}
	// What was removed is not there for the next layer.
	if err := rewriteAll(t, newStack(t.TempDir()), below, []tar.Header{file(".wh.d")}, []tar.Header{file("d/.wh.x")}); !errors.Is(err, ErrLayer) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestLayersHaveBoundsInBytes(t *testing.T) {
	t.Parallel()
	room := newStack(t.TempDir())
	room.bytes = 10_000
	big := []tar.Header{{Typeflag: tar.TypeReg, Name: "a", Size: 4000}}
	if err := rewriteAll(t, room, big); err != nil {
		t.Errorf("within the bound: %v", err)
	}
	if err := rewriteAll(t, room, big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("two layers of more than it together: %v", err)
	}
	record := tar.Header{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 9000)}}
	other := record
	other.Name = "b"
	held := newStack(t.TempDir())
	held.most = 12_000
	if err := rewriteAll(t, held, []tar.Header{record}, []tar.Header{other}); err != nil {
		t.Errorf("headers within the bound: %v", err)
	}
	if err := rewriteAll(t, held, []tar.Header{record, other}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("headers without end: %v", err)
	}
	var names []tar.Header
	for n := range 20 {
		names = append(names, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(n)})
	}
	held.most -= 1000
	for n := range 10 {
		for i := range names {
			names[i].Name = fmt.Sprintf("%d/%d", n, i)
		}
		if err := rewriteAll(t, held, names); err != nil {
			if !errors.Is(err, ErrTooLarge) || n == 0 {
				t.Errorf("names, layer %d: %v", n, err)
			}
			return
		}
	}
	t.Error("names without end")
}

func TestTheSavedImageMakesRoom(t *testing.T) {
	t.Parallel()
	saved := save(t, "one", commit, tar.Header{Typeflag: tar.TypeReg, Name: "a"})
	reproduce(t, saved, commit)
	if _, err := os.Stat(saved); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
