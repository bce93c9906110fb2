// Package insight groups what users say into themes. One aggregate a project.
//
// A piece of feedback joins the theme of the same feature (or, without one, the same service) and category; one that
// names neither joins the theme whose words it shares most, by the Jaccard index of hashed stems. Else it begins a theme.
// A theme is confirmed when enough distinct users say it. Words never come here: only their keyed hashes do.
package insight

// Kind names the aggregate.
const Kind = "insight"

// Version of the fold.
const Version = 1

const (
	threshold    = 0.25 // Jaccard index from which two texts are held to say the same
	mostTerms    = 256  // of one theme
	mostUsers    = 5000 // of one theme; beyond, support no longer matters
	mostFeedback = 5000 // pieces that a theme lists, the latest
	mostThemes   = 2000 // that a project keeps open, the latest
)

// State is what is known of a project's themes, in the order in which they began.
type State struct {
	Themes []Theme `json:"themes,omitempty"`
}

// Theme is what several pieces of feedback have in common.
type Theme struct {
	ID        string   `json:"id"`
	Title     string   `json:"title"`
	Feature   string   `json:"feature,omitempty"`
	Service   string   `json:"service,omitempty"`
	Category  string   `json:"category"`
	Users     []string `json:"users"`
	Feedback  []string `json:"feedback"`
	Sentiment float64  `json:"sentiment"` // mean
	Pieces    int      `json:"pieces"`
	Confirmed bool     `json:"confirmed,omitempty"`
	Terms     []uint64 `json:"terms,omitempty"` // sorted
	Chain     string   `json:"chain,omitempty"` // of the first piece
	First     string   `json:"first,omitempty"` // id of the fact that the first piece was received
}
