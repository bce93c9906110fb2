package builder

import (
	"context"
	"errors"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/coverage"
	"github.com/lemnis/lemnis/services/builder/git"
)

// coveredOf tells how many of the lines that a change adds to the master copy the tests ran; nil where that is not known,
// since nothing was measured or the commit was tested on nothing.
func coveredOf(ctx context.Context, repo *git.Repository, m events.MergeDetail, measured coverage.Profile) (*events.Covered, error) {
	if _, of := measured.Whole(); of == 0 || m.Onto == "" {
		return nil, nil
	}
	files, err := repo.Files(ctx, m.Commit)
	if err != nil {
		return nil, err
	}
	changed, err := repo.ChangedLines(ctx, m.Onto, m.Commit)
	if errors.Is(err, git.ErrTooLarge) {
		return nil, nil // more lines than can be looked at
	}
	if err != nil {
		return nil, err
	}
	touched := map[string][]coverage.Range{}
	for file, all := range changed {
		for _, lines := range all {
			touched[file] = append(touched[file], coverage.Range(lines))
		}
	}
	located := measured.Located(files)
	percent, of := located.Changed(touched)
	return &events.Covered{Percent: percent, Lines: of}, nil
}
