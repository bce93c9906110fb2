package feedback

import (
	"hash/fnv"
	"slices"
	"strings"
	"unicode"
)

// Words, by their stems, that tell what a piece of feedback is about, and how its author feels. English only, yet.
var (
	categories = []struct {
		name  string
		stems []string
	}{
		{"failure", strings.Fields("crash error fail broken break bug wrong lost lose 500 404 exception corrupt unavailable down bork empty blank stuck")},
		{"performance", strings.Fields("slow lag wait timeout latency hang freez speed second minut load forever sluggish")},
		{"missing", strings.Fields("miss lack need wish want add support feature without option import export would could")},
		{"usability", strings.Fields("confus hard difficult unclear find hidden click complicat awkward button menu understand layout navigat")},
	}
	moods = map[string]float64{
		"good": 1, "great": 2, "love": 2, "nice": 1, "excellent": 2, "fast": 1, "helpful": 1, "thank": 1, "perfect": 2, "easy": 1, "like": 0.5, "awesom": 2, "happy": 1, "better": 0.5,
		"bad": -1, "slow": -1, "crash": -2, "fail": -1.5, "broken": -2, "break": -1.5, "error": -1, "bug": -1, "hate": -2, "terribl": -2, "awful": -2, "wrong": -1, "annoy": -1.5, "useless": -2, "confus": -1,
		"hard": -0.5, "difficult": -1, "lost": -1, "timeout": -1, "hang": -1, "freez": -1, "frustrat": -2, "worse": -1, "wors": -1, "unusabl": -2, "forever": -1, "stuck": -1, "lag": -1,
	}
	negations = map[string]bool{"not": true, "no": true, "never": true, "isn't": true, "doesn't": true, "don't": true, "can't": true, "cannot": true, "won't": true, "didn't": true}
	stopWords = func() map[string]bool {
		set := map[string]bool{}
		for _, w := range strings.Fields("a an the and or but is are was were be been it its this that these those i we you he she they my our your me us them to of in on at for with from by as so if when then than there here have has had do does did will can just very too really also more most some any all not no") {
			set[w] = true
		}
		return set
	}()
)

const mostTerms = 64 // hashed stems of one piece

// words cuts a text into lower-case words; marks of what was masked are left out.
func words(text string) []string {
	all := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '\'' && r != '[' && r != ']'
	})
	return slices.DeleteFunc(all, func(w string) bool { return strings.ContainsAny(w, "[]") })
}

// stem cuts the endings that make the same word look different. Cruder than Porter's, and enough to compare.
func stem(w string) string {
	for _, ending := range []string{"ingly", "edly", "ing", "ies", "ed", "es", "ly", "s", "e"} {
		if base, ok := strings.CutSuffix(w, ending); ok && len(base) >= 4 {
			if n := len(base); base[n-1] == base[n-2] && !strings.ContainsRune("lse", rune(base[n-1])) {
				return base[:n-1]
			}
			return base
		}
	}
	return strings.TrimSuffix(w, "s")
}

// read understands a text: what it is about, how its author feels (−1 to 1, 0 when it does not tell), and its hashed stems.
func read(project, text string) (category string, sentiment float64, terms []uint64) {
	votes := map[string]int{}
	total, feelings, negated := 0.0, 0.0, 0
	for _, w := range words(text) {
		if negations[w] {
			negated = 3
			continue
		}
		s := stem(w)
		for _, c := range categories {
			if slices.Contains(c.stems, s) || slices.Contains(c.stems, w) {
				votes[c.name]++
			}
		}
		mood, felt := moods[s]
		if !felt {
			mood, felt = moods[w]
		}
		if felt {
			if negated > 0 {
				mood = -mood / 2
			}
			total, feelings = total+mood, feelings+1
		}
		negated--
		if !stopWords[w] && len(w) > 1 {
			terms = append(terms, hashed(project, s))
		}
	}
	best := 0
	for _, c := range categories {
		if votes[c.name] > best {
			category, best = c.name, votes[c.name]
		}
	}
	if feelings > 0 {
		sentiment = min(max(total/feelings/2, -1), 1)
	}
	slices.Sort(terms)
	terms = slices.Compact(terms)
	return category, sentiment, terms[:min(len(terms), mostTerms)]
}

// hashed is a stem that can be compared within a project, and not read.
func hashed(project, stem string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(project + "\x00" + stem)) // a hash takes everything
	return h.Sum64()
}
