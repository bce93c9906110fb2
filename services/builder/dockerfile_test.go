package builder_test

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/sbom"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor/executortest"
	"github.com/lemnis/lemnis/services/builder"
)

// A commit gives the same image whoever builds it, without anything that was built before; and it is an image as others read it, with
// the evidence that executables have.
func TestADockerfileBecomesAnImage(t *testing.T) {
	t.Parallel()
	base := executortest.Image(t)
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"Dockerfile": fmt.Sprintf(`FROM %s AS build
RUN echo compiled >/made; touch /other; mkdir /empty
FROM scratch
COPY --from=build /made /made
COPY --from=build /empty /empty
COPY --from=build /test /bin/test
COPY . /app
COPY installed /lib/apk/db/installed
CMD ["/bin/test"]
`, base), "installed": "P:musl\nV:1.2\nL:MIT AND (ISC OR BSD-2-Clause)\n", "a": "text", "log.txt": "x", ".dockerignore": "*.txt"})
	url, p := ociRegistry(t), project(o)
	options := builder.Options{Registry: url, SecretsDir: t.TempDir()}
	made, again := packaged(t, options, p), packaged(t, options, p)
	if made.Artifact != again.Artifact || made.Digest != again.Digest || made.Size != again.Size || made.Supply.SBOM != again.Supply.SBOM {
		t.Fatalf("two builds of one commit:\n%+v\n%+v", made, again)
	}
	ref, err := name.NewDigest(made.Artifact, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(ref)
	if err == nil {
		err = validate.Image(image)
	}
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := image.ConfigName(); id.String() != made.Digest || config.Created.Unix() != 1700000000 || fmt.Sprint(config.Config.Cmd) != "[/bin/test]" {
		t.Errorf("%s is not %s, or: %+v", id, made.Digest, config)
	}
	var files []string
	all := mutate.Extract(image)
	for r := tar.NewReader(all); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		files = append(files, h.Name)
		if h.ModTime.Unix() > 1700000000 {
			t.Errorf("%s is of %v", h.Name, h.ModTime)
		}
	}
	_ = all.Close()
	if got := strings.Join(files, " "); !strings.Contains(got, "app/a") || strings.Contains(got, "log.txt") || strings.Contains(got, "other") {
		t.Errorf("it holds %s", got)
	}
	repository, digest, _ := strings.Cut(made.Artifact, "@")
	subject := oci.Reference{Repository: repository, Digest: digest}
	bills, err := oci.Attached(t.Context(), subject, sbom.MediaType, 10)
	if err != nil || len(bills) != 1 {
		t.Fatalf("%d bills, %v", len(bills), err)
	}
	for _, part := range []string{`"/app/a"`, `"/made"`, `"pkg:golang/std@`, `"pkg:apk/alpine/musl@1.2"`} {
		if !strings.Contains(string(bills[0].Content), part) {
			t.Errorf("the bill lacks %s", part)
		}
	}
	signed, err := oci.Attached(t.Context(), subject, attest.ProvenanceMediaType, 10)
	if err != nil || len(signed) == 0 {
		t.Fatalf("%d statements, %v", len(signed), err)
	}
	trusted, err := attest.Trusted(options.SecretsDir, "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	statement, _, err := attest.Open(t.Context(), signed[0].Content, trusted)
	if err != nil || !statement.Covers(digest) || !statement.Covers(made.Digest) || statement.Commit() != o.head(t, "main") {
		t.Errorf("%+v, %v", statement, err)
	}
	if text, _ := json.Marshal(statement); !strings.Contains(string(text), `"docker://`+base) || !strings.Contains(string(text), attest.ImageBuildType) {
		t.Errorf("no base image in %s", text)
	}
	if s := made.Supply; fmt.Sprint(s.Licenses, s.Missing) != "[BSD-2-Clause ISC MIT] [vulnerabilities: of 1 packages of its system they are not known here]" {
		t.Errorf("%+v", s)
	}
}

// What is tested for the queue is what is shipped: the image is built once.
func TestAnImageIsBuiltOnceForAChange(t *testing.T) {
	t.Parallel()
	executortest.Engine(t)
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n"})
	head := o.commit(t, "find", map[string]string{"b": "new"})
	s := newShift(t, builder.Options{Registry: ociRegistry(t), SecretsDir: t.TempDir()}, project(o))
	ran := s.pipeline(t, find(head))
	if ran.Outcome != events.Success {
		t.Fatalf("%+v", ran)
	}
	got, err := s.work(t, "package", "api@7", 1, events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: ran.Lemnis.Merge}})
	if end, is := got.(events.BuildFinished); err != nil || !is || end.Lemnis.Outcome != events.Success || end.Lemnis.Artifact == "" {
		t.Fatalf("%+v, %v", got, err)
	}
}

// A Dockerfile that is wrong is the project's fault, and told.
func TestAnImageThatCanNotBeBuiltIsAFinding(t *testing.T) {
	t.Parallel()
	executortest.Engine(t)
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"Dockerfile": "FROM scratch\nCOPY none /\n"})
	got, err := newShift(t, builder.Options{Registry: ociRegistry(t)}, project(o)).work(t, "package", "api@initial", 1,
		events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: events.MergeDetail{Repository: "api", Base: "main"}}})
	if end, is := got.(events.BuildFinished); err != nil || !is || end.Lemnis.Outcome != events.Failure || !strings.Contains(end.Lemnis.Reason, "packaging: ") || !strings.Contains(end.Lemnis.Reason, "none") {
		t.Errorf("%+v, %v", got, err)
	}
}
