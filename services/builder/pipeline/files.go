package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// pattern compiles a pattern over paths with slashes: ** is any folders, * and ? are within a name, {a,b} is either, [abc] one of
// them or this very text, since there are files of such names, and a folder's name is all that is in it.
func pattern(text string) *regexp.Regexp {
	var b strings.Builder
	text = path.Clean(text)
	end := 0 // of the braces that are open; 0: none are
	for i := 0; i < len(text); i++ {
		closes := strings.IndexAny(text[i+1:], "{}[]")
		switch {
		case text[i] == '{' && end == 0 && closes > 0 && text[i+1+closes] == '}' && strings.Contains(text[i:i+1+closes], ","):
			b.WriteString("(?:")
			end = i + 1 + closes
		case i == end && end > 0:
			b.WriteString(")")
			end = 0
		case text[i] == ',' && end > 0:
			b.WriteString("|")
		case text[i] == '[' && closes > 0 && text[i+1+closes] == ']' && class(text[i+1:i+1+closes]) != "":
			inner := text[i+1 : i+1+closes]
			b.WriteString("(?:" + regexp.QuoteMeta("["+inner+"]") + "|" + class(inner) + ")")
			i += 1 + closes
		case strings.HasPrefix(text[i:], "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(text[i:], "**"):
			b.WriteString(".*")
			i++
		case text[i] == '*':
			b.WriteString("[^/]*")
		case text[i] == '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(text[i : i+1]))
		}
	}
	return regexp.MustCompile("^(?s:" + b.String() + ")(?:/.*)?$")
}

// class is one of the characters in brackets; empty where these say nothing of the kind.
func class(inner string) string {
	not, chars := "", inner
	if inner[0] == '^' || inner[0] == '!' {
		not, chars = "^/", inner[1:]
	}
	form := "[" + not + regexp.QuoteMeta(chars) + "]"
	if _, err := regexp.Compile(form); err != nil || chars == "" || strings.Contains(chars, "/") {
		return ""
	}
	return form
}

// glob lists the regular files of the checkout that one of the patterns names, and the links where they are asked for. What can
// not be looked into is left out, and told: rights are the project's to set.
func (r *run) glob(patterns []string, links bool) (files []string, unread error) {
	var forms []*regexp.Regexp
	plain := true
	for _, p := range patterns {
		forms = append(forms, pattern(p))
		plain = plain && !strings.ContainsAny(p, "*?{[")
	}
	seen := map[string]bool{}
	visit := func(at string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			unread = errors.Join(unread, err)
			return nil
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case seen[at] || !entry.Type().IsRegular() && (!links || entry.Type() != fs.ModeSymlink):
			return nil
		}
		for _, form := range forms {
			if form.MatchString(at) {
				seen[at], files = true, append(files, at)
				return nil
			}
		}
		return nil
	}
	if !plain {
		patterns = []string{"."}
	}
	for _, p := range patterns { // names of files or folders: the rest of the tree need not be looked at
		unread = errors.Join(unread, fs.WalkDir(r.root.FS(), path.Clean(p), visit))
	}
	return files, unread
}

// clear removes reports of an earlier run, so that they are not taken for this one's.
func (r *run) clear(reports definition.Reports) error {
	files, _ := r.glob(append(append([]string(nil), reports.Tests...), reports.Coverage...), false) // what is not seen here is not read either
	for _, file := range files {
		if err := r.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pack takes the packaged file out of the checkout.
func (r *run) pack(name string) error {
	info, err := r.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		r.fail(StepPackage, CausePackage, fmt.Sprintf("%s is to be packaged, and no step left a file there", name))
		return nil // it is the project's: a step of the report
	}
	// A folder of its own: the name is the project's choice and must not meet build.log.
	to := filepath.Join(r.spec.Output, "bin", path.Base(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	sum := sha256.New()
	var size int64
	if r.idle { // no step has run that could have it open, or under another name
		size, err = r.packMoved(name, to, sum)
	} else {
		from, unread := r.root.Open(name)
		if unread != nil {
			r.fail(StepPackage, CausePackage, fmt.Sprintf("%s is to be packaged, and can not be read: %v", name, unread))
			return nil
		}
		defer func() { _ = from.Close() }()
		size, err = packCopied(from, to, sum)
	}
	if err != nil {
		return err
	}
	r.report.Executable, r.report.Size = to, size
	r.report.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return nil
}

func (r *run) packMoved(name, to string, sum io.Writer) (int64, error) {
	if err := r.move(name, to); err != nil {
		return 0, err
	}
	file, err := os.Open(to)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(sum, file)
	return size, errors.Join(err, file.Chmod(0o755), file.Close()) // it is a program
}

func packCopied(from io.Reader, to string, sum io.Writer) (int64, error) {
	file, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755) //nolint:gosec // it is a program
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(io.MultiWriter(file, sum), from)
	return size, errors.Join(err, file.Close())
}
