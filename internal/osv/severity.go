package osv

import (
	"strings"

	cvss20 "github.com/pandatix/go-cvss/20"
	cvss30 "github.com/pandatix/go-cvss/30"
	cvss31 "github.com/pandatix/go-cvss/31"
	cvss40 "github.com/pandatix/go-cvss/40"
)

// Severity of a vulnerability, in the bands of CVSS.
type Severity int

// The severities, in rising order. Unknown is what no database rated, which may be anything.
const (
	Unknown Severity = iota
	Low
	Medium
	High
	Critical
)

// String is the severity's name.
func (s Severity) String() string {
	return [...]string{"unknown", "low", "medium", "high", "critical"}[s]
}

func band(score float64) Severity {
	switch {
	case score >= 9:
		return Critical
	case score >= 7:
		return High
	case score >= 4:
		return Medium
	}
	return Low // also the score 0: it is listed, so it is no nothing
}

// severity is the highest that is said for what is affected: by its CVSS vectors, else by a word of the database.
func (e entry) severity(a affected) Severity {
	worst := Unknown
	for _, s := range append(append([]score(nil), e.Severity...), a.Severity...) {
		if rated, ok := s.rate(); ok {
			worst = max(worst, rated)
		}
	}
	if worst != Unknown {
		return worst
	}
	for _, of := range []specific{a.Specific, e.Specific} {
		word, _ := of.Severity.(string)
		switch strings.ToLower(word) {
		case "critical":
			return Critical
		case "high", "important":
			return High
		case "medium", "moderate":
			return Medium
		case "low", "negligible":
			return Low
		}
	}
	return Unknown
}

func (s score) rate() (Severity, bool) {
	switch {
	case strings.HasPrefix(s.Score, "CVSS:4.0/"):
		if v, err := cvss40.ParseVector(s.Score); err == nil {
			return band(v.Score()), true
		}
	case strings.HasPrefix(s.Score, "CVSS:3.1/"):
		if v, err := cvss31.ParseVector(s.Score); err == nil {
			return band(v.BaseScore()), true
		}
	case strings.HasPrefix(s.Score, "CVSS:3.0/"):
		if v, err := cvss30.ParseVector(s.Score); err == nil {
			return band(v.BaseScore()), true
		}
	case s.Type == "CVSS_V2":
		if v, err := cvss20.ParseVector(s.Score); err == nil {
			return band(v.BaseScore()), true
		}
	}
	return Unknown, false
}
