package image

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Dockerfile is what is known of one without an engine.
type Dockerfile struct {
	Bases    []string        // images that it is made of, in their order; of those that only an engine can tell, none
	Declares map[string]bool // names of its ARG
	Refused  error           // why no engine is asked for it, an ErrDockerfile: it fetches past the network's limits, or from where is not to be told
}

const (
	mostExpanded = 1 << 20 // bytes of the values of variables, wherever they are put in: each may hold the one before it twice
	mostBases    = 100
)

// ErrDockerfile says that an image is not built by a Dockerfile, whatever an engine would make of it.
var ErrDockerfile = errors.New("the Dockerfile")

var (
	escapeForm    = regexp.MustCompile("(?i)^#\\s*escape\\s*=\\s*([\\\\`])")
	directiveForm = regexp.MustCompile(`^#\s*[a-zA-Z][a-zA-Z0-9]*\s*=`)
	fromForm      = regexp.MustCompile(`(?i)^--from=(\S+)$`)
)

// Read reads a Dockerfile up to the stage that is the target; empty: the last. It looks for no errors, which are the engine's to tell,
// but for what must not be asked of one.
func Read(text []byte, args map[string]string, target string) Dockerfile {
	escapes := escapes(string(text))
	d := read(instructions(string(text), escapes[0]), args, target)
	for _, other := range escapes[1:] { // engines differ in whether they honour it
		if o := read(instructions(string(text), other), args, target); d.Refused == nil {
			d.Refused = o.Refused
		}
	}
	return d
}

// Triggers says why no image is built on one that has such ONBUILD instructions; nil: no reason.
func Triggers(all []string) error {
	d := read(instructions(strings.Join(all, "\n"), `\`), nil, "")
	if d.Refused == nil && len(d.Bases) > 0 {
		return fmt.Errorf("%w: ONBUILD takes files of image %s", ErrDockerfile, d.Bases[0])
	}
	return d.Refused
}

func read(all [][]string, args map[string]string, target string) (d Dockerfile) {
	d.Declares = map[string]bool{}
	global, stages := map[string]string{}, map[string]bool{}
	use := func(name string) {
		if len(d.Bases) <= mostBases && name != "" && name != "scratch" && !stages[strings.ToLower(name)] && !slices.Contains(d.Bases, name) {
			d.Bases = append(d.Bases, name)
		}
	}
	refuse := func(format string, v ...any) {
		if d.Refused == nil {
			d.Refused = fmt.Errorf("%w: "+format, append([]any{ErrDockerfile}, v...)...)
		}
	}
	last, room := "", mostExpanded
	defer func() {
		if room < 0 {
			refuse("the values of its variables, wherever they are used, have more than %d bytes", mostExpanded)
		}
		if len(d.Bases) > mostBases {
			refuse("it is made of more than %d images", mostBases)
		}
	}()
	for _, words := range all {
		if strings.EqualFold(words[0], "ONBUILD") && len(words) > 1 {
			words = words[1:] // it is of this build where another stage is FROM that one
		}
		switch strings.ToUpper(words[0]) {
		case "ARG":
			for _, word := range words[1:] {
				name, value, _ := strings.Cut(word, "=")
				d.Declares[name] = true
				if last == "" {
					global[name] = expand(strings.Trim(value, `"'`), global, &room)
					if given, is := args[name]; is {
						global[name] = given
					}
				}
			}
		case "FROM":
			if last != "" && strings.EqualFold(last, target) {
				return d
			}
			rest := slices.DeleteFunc(slices.Clone(words[1:]), func(w string) bool { return strings.HasPrefix(w, "--") })
			if len(rest) == 0 {
				continue
			}
			if base := expand(rest[0], global, &room); baseForm.MatchString(base) {
				use(base)
			} else {
				refuse("%q names a base image by what only an engine can tell", "FROM "+rest[0])
			}
			last = "-" // a stage without a name, which no target can be
			if len(rest) == 3 && strings.EqualFold(rest[1], "AS") {
				last = rest[2]
				stages[strings.ToLower(last)] = true
			}
		case "COPY":
			for _, word := range words[1:] {
				from := fromForm.FindStringSubmatch(word)
				if len(from) != 2 || strings.Trim(from[1], "0123456789") == "" { // a number is a stage
					continue
				}
				if baseForm.MatchString(from[1]) {
					use(from[1])
				} else {
					refuse("%q names an image by what only an engine can tell", word)
				}
			}
		case "ADD":
			rest := words[1:]
			for len(rest) > 0 && strings.HasPrefix(rest[0], "--") {
				rest = rest[1:]
			}
			if foreign := slices.IndexFunc(rest, func(w string) bool { return strings.ContainsAny(w, ":$\\`") }); foreign >= 0 {
				refuse("ADD of %q is, or may be, of a URL, which the engine itself fetches whatever the network of the build: COPY what the commit has, or fetch it in a RUN with network: true", rest[foreign])
			}
		}
	}
	return d
}

// baseForm is what names of images are made of.
var baseForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$`)

// escapes are the characters that may go before the end of a line that goes on, the most likely first: engines differ in what they take
// for a directive, and in how many there may be.
func escapes(text string) []string {
	for i, line := range lines(text) {
		line = strings.TrimSpace(line)
		if found := escapeForm.FindStringSubmatch(line); len(found) == 2 && found[1] == "`" {
			if i == 0 {
				return []string{"`"}
			}
			return []string{"`", `\`}
		}
		if !directiveForm.MatchString(line) {
			break
		}
	}
	return []string{`\`}
}

func lines(text string) []string {
	return strings.Split(strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n"), "\n")
}

// instructions are the words of each, with lines that go on joined as engines do, without a space, and comments left out.
func instructions(text, escape string) (all [][]string) {
	var line strings.Builder
	end := func() {
		if words := strings.Fields(line.String()); len(words) > 0 {
			all = append(all, words)
		}
		line.Reset()
	}
	for _, raw := range lines(text) {
		trimmed := strings.TrimSpace(raw)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		raw = strings.TrimRight(raw, " \t")
		if before, goes := strings.CutSuffix(raw, escape); goes {
			line.WriteString(before)
			continue
		}
		line.WriteString(raw)
		end()
	}
	end() // engines take a last line that goes on
	return all
}

// expand puts in the values of variables, with defaults as ${NAME:-default}, as long as there is room.
func expand(text string, values map[string]string, room *int) string {
	return os.Expand(text, func(name string) string {
		value := valueOf(name, values)
		if *room -= len(value); *room < 0 {
			return ""
		}
		return value
	})
}

func valueOf(name string, values map[string]string) string {
	if plain, other, is := strings.Cut(name, ":-"); is {
		return cmp.Or(values[plain], other)
	}
	if plain, other, is := strings.Cut(name, ":+"); is {
		if values[plain] == "" {
			return ""
		}
		return other
	}
	return values[name]
}
