package git

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

var signatureForm = regexp.MustCompile(`^([^<>]*[^<> ]) <([^<>]*)> ([0-9]{1,15}) [+-][0-9]{4}$`)

// commitOrder says after which lines those stand in a commit that git reads.
var commitOrder = map[string][]string{"tree": {""}, "parent": {"tree", "parent"}, "author": {"tree", "parent"}, "committer": {"author"}}

// readCommit reads what a commit object holds. Of one that is out of the ordinary (another encoding, a broken author, lines in another
// order than git's own) it says so: git knows what to make of it. Git takes for parents those lines alone that stand between tree and
// author; whoever writes others elsewhere would have the commit hold what it does not.
func readCommit(id string, text []byte) (c Commit, ordinary bool) {
	head, message, ended := strings.Cut(string(text), "\n\n")
	if !ended || strings.Contains(string(text), "\x00") {
		return Commit{}, false
	}
	c = Commit{ID: id, Parents: []string{}, Message: strings.TrimRight(message, "\n")}
	after := "" // which line the last one was
	for line := range strings.SplitSeq(head, "\n") {
		name, value, _ := strings.Cut(line, " ") // a line that goes on begins with a space: its name is empty
		mayFollow, ordered := commitOrder[name]
		if ordered && !slices.Contains(mayFollow, after) || !ordered && after != "committer" { // a signature, say, is the last
			return Commit{}, false
		}
		switch name {
		case "tree", "parent":
			if !isID(value) || len(value) != len(id) {
				return Commit{}, false
			}
			if name == "parent" {
				c.Parents = append(c.Parents, value)
			}
		case "author", "committer":
			part := signatureForm.FindStringSubmatch(value)
			if len(part) == 0 || strings.HasPrefix(part[1], " ") {
				return Commit{}, false
			}
			who, at := Identity{Name: part[1], Email: part[2]}, seconds(part[3])
			if name == "author" {
				c.Author, c.Authored = who, at
			} else {
				c.Committer, c.Committed = who, at
			}
		case "encoding":
			return Commit{}, false
		}
		if ordered {
			after = name
		}
	}
	return c, after == "committer"
}

// render is a merge's commit as git commit-tree writes it. What that would change (a name that ends with a dot, say) or might
// read otherwise is left to git.
func (m Merge) render() (text []byte, plain bool) {
	if m.Time.Unix() < 100_000_000 || strings.Contains(m.Message, "\x00") {
		return nil, false
	}
	for _, who := range []Identity{m.Author, m.Committer} {
		for _, word := range []string{who.Name, who.Email} {
			if strings.Trim(word, " .,:;<>\"\\'") != word || strings.ContainsFunc(word, func(r rune) bool { return r < ' ' }) {
				return nil, false
			}
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\nparent %s\nparent %s\nauthor %s <%s> %d +0000\ncommitter %s <%s> %d +0000\n\n%s", m.Tree, m.Base, m.Head,
		m.Author.Name, m.Author.Email, m.Time.Unix(), m.Committer.Name, m.Committer.Email, m.Time.Unix(), m.Message)
	return b.Bytes(), readable(b.String())
}

// readable says whether a text is what git takes for UTF-8: it leaves no non-characters.
func readable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef
	})
}

// put writes an object into the repository, as git does, and returns its name.
func (r *Repository) put(kind string, content []byte, width int) (id string, err error) {
	sum := naming(width)
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	head := fmt.Appendf(nil, "%s %d\x00", kind, len(content))
	for _, part := range [][]byte{head, content} {
		sum.Write(part)
		_, _ = z.Write(part) // into memory
	}
	_ = z.Close()
	id = hex.EncodeToString(sum.Sum(nil))
	folder, now := filepath.Join(r.dir, "objects", id[:2]), time.Now()
	if err := os.Chtimes(filepath.Join(folder, id[2:]), now, now); err == nil { // what is there and old, tidying removes where no branch has it
		return id, nil
	}
	file, err := temporary(folder)
	if err != nil {
		return "", err
	}
	_, err = file.Write(packed.Bytes())
	err = errors.Join(err, file.Chmod(0o444), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(folder, id[2:]))
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return id, nil
}

// temporary makes a file in a folder of objects, and the folder where there is none: tidying removes one that is empty, also between the two.
func temporary(folder string) (file *os.File, err error) {
	for range 2 {
		if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if file, err = os.CreateTemp(folder, "tmp_obj_"); !errors.Is(err, fs.ErrNotExist) { // what is left of one git removes
			break
		}
	}
	return file, err
}
