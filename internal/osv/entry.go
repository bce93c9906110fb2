package osv

import (
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// entry is a vulnerability in the format of OSV, as far as it says what is affected.
type entry struct {
	ID        string     `json:"id"`
	Modified  time.Time  `json:"modified"`
	Withdrawn *time.Time `json:"withdrawn"`
	Aliases   []string   `json:"aliases"`
	Summary   string     `json:"summary"`
	Severity  []score    `json:"severity"`
	Affected  []affected `json:"affected"`
	Specific  specific   `json:"database_specific"`
}

type score struct {
	Type  string `json:"type"` // CVSS_V2, CVSS_V3, CVSS_V4
	Score string `json:"score"`
}

type specific struct {
	Severity any `json:"severity"` // of some databases a word, of others a number or an object
}

type affected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity []score  `json:"severity"`
	Ranges   []span   `json:"ranges"`
	Versions []string `json:"versions"`
	Specific specific `json:"database_specific"`
}

type span struct {
	Type   string  `json:"type"`
	Events []event `json:"events"`
}

// event is where a range begins or ends; one of its fields is set.
type event struct {
	Introduced   string `json:"introduced"` // "0": from the first version
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
}

func parse(text []byte) (entry, error) {
	var e entry
	err := json.Unmarshal(text, &e)
	return e, err
}

// canonical is a version as semver compares them: v1.2.3. Empty for what is none.
func canonical(version string) string {
	if version == "0" {
		return "v0.0.0-0" // before every version
	}
	return semver.Canonical("v" + strings.TrimPrefix(version, "v"))
}

// holds reports whether a version, a canonical one, is affected, and the version that mends it, empty when none is named.
func (a affected) holds(version string) (fixed string, is bool) {
	for _, v := range a.Versions {
		is = is || canonical(v) == version
	}
	for _, s := range a.Ranges {
		if s.Type != "SEMVER" && s.Type != "ECOSYSTEM" {
			continue // commits
		}
		if mend, in := s.holds(version); in {
			return mend, true
		}
	}
	return "", is
}

// holds looks for the last event at or before the version: it is affected when that one introduced it. A range may have several
// beginnings and ends, in any order.
func (s span) holds(version string) (fixed string, is bool) {
	last, ends := "", ""
	for _, e := range s.Events {
		if at := canonical(e.Introduced); e.Introduced != "" && at != "" && semver.Compare(at, version) <= 0 && (last == "" || semver.Compare(at, last) >= 0) {
			last, is = at, true
		}
	}
	if !is {
		return "", false
	}
	for _, e := range s.Events {
		if at := canonical(e.Fixed); e.Fixed != "" && at != "" {
			switch {
			case semver.Compare(at, version) > 0: // mends a later one, perhaps this
				if ends == "" || semver.Compare(at, ends) < 0 {
					ends, fixed = at, e.Fixed
				}
			case semver.Compare(at, last) >= 0: // and introduced again by none of the later events
				return "", false
			}
		}
		if at := canonical(e.LastAffected); e.LastAffected != "" && at != "" && semver.Compare(at, version) < 0 && semver.Compare(at, last) >= 0 {
			return "", false
		}
	}
	return fixed, true
}
