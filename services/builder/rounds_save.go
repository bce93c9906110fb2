package builder

import "encoding/json"

// savedRound is a round as a snapshot has it.
type savedRound struct {
	Project string `json:"project"`
	Change  string `json:"change"`
	Number  int    `json:"number"`
	Left    bool   `json:"left"`
	At      uint64 `json:"at,omitempty"`
}

func (q *rounds) save() ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]savedRound, 0, len(q.rounds))
	for at, r := range q.rounds {
		all = append(all, savedRound{at.project, at.change, r.number, r.left, r.at})
	}
	return json.Marshal(all)
}

func (q *rounds) load(text []byte) error {
	var all []savedRound
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.rounds)
	for _, r := range all {
		q.rounds[place{r.Project, r.Change}] = round{r.Number, r.Left, r.At}
	}
	return nil
}
