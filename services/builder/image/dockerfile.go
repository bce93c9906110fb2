package image

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

// Dockerfile is what is known of one without an engine.
type Dockerfile struct {
	Bases    []string        // images that it is made of, in their order; of those that only an engine can tell, none
	Declares map[string]bool // names of its ARG
}

var (
	escapeForm = regexp.MustCompile("(?i)^#\\s*escape\\s*=\\s*([\\\\`])\\s*$")
	fromForm   = regexp.MustCompile(`(?i)^--from=(\S+)$`)
)

// Read reads a Dockerfile up to the stage that is the target; empty: the last. It looks for no errors, which are the engine's to tell.
func Read(text []byte, args map[string]string, target string) Dockerfile {
	d := Dockerfile{Declares: map[string]bool{}}
	global, stages := map[string]string{}, map[string]bool{}
	use := func(name string) {
		if name != "" && name != "scratch" && !stages[strings.ToLower(name)] && !slices.Contains(d.Bases, name) {
			d.Bases = append(d.Bases, name)
		}
	}
	last := ""
	for _, words := range instructions(string(text)) {
		switch strings.ToUpper(words[0]) {
		case "ARG":
			for _, word := range words[1:] {
				name, value, _ := strings.Cut(word, "=")
				d.Declares[name] = true
				if last == "" {
					global[name] = expand(strings.Trim(value, `"'`), global)
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
			use(expand(rest[0], global))
			last = "-" // a stage without a name, which no target can be
			if len(rest) == 3 && strings.EqualFold(rest[1], "AS") {
				last = rest[2]
				stages[strings.ToLower(last)] = true
			}
		case "COPY":
			for _, word := range words[1:] {
				from := fromForm.FindStringSubmatch(word)
				if len(from) == 2 && strings.Trim(from[1], "0123456789") != "" { // a number is a stage
					use(from[1])
				}
			}
		}
	}
	return d
}

// instructions are the words of each, with lines that go on joined and comments left out.
func instructions(text string) (all [][]string) {
	escape, line := `\`, ""
	for i, raw := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		trimmed := strings.TrimSpace(raw)
		if found := escapeForm.FindStringSubmatch(trimmed); found != nil && i == 0 {
			escape = found[1]
		}
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		if before, goes := strings.CutSuffix(trimmed, escape); goes {
			line += before + " "
			continue
		}
		if words := strings.Fields(line + trimmed); len(words) > 0 {
			all = append(all, words)
		}
		line = ""
	}
	return all
}

// expand puts in the values of variables, with defaults as ${NAME:-default}.
func expand(text string, values map[string]string) string {
	return os.Expand(text, func(name string) string {
		if plain, other, is := strings.Cut(name, ":-"); is {
			if values[plain] != "" {
				return values[plain]
			}
			return other
		}
		if plain, other, is := strings.Cut(name, ":+"); is {
			if values[plain] == "" {
				return ""
			}
			return other
		}
		return values[name]
	})
}
