package git

import "errors"

var (
	// ErrMoved says that the branch no longer stood where the caller believed it to stand.
	ErrMoved = errors.New("branch has moved")
	// ErrRefused says that the origin does not take the commit, and would not take it another time: the branch is protected, or a hook says no.
	ErrRefused = errors.New("the origin refuses it")
	// ErrNotFound says that the repository has no such branch, tag or commit.
	ErrNotFound = errors.New("not found in the repository")
	// ErrBadName says that a branch, revision or URL is not of an accepted form.
	ErrBadName = errors.New("bad name")
	// ErrNotForward says that the new commit does not contain the old one.
	ErrNotForward = errors.New("not a fast-forward")
	// ErrUnsafeTree says that a tree holds a path or a symbolic link that leads out of it.
	ErrUnsafeTree = errors.New("unsafe tree")
	// ErrTooLarge says that a checkout would pass the limits of MaxFiles or MaxBytes, or that there is more to list than git may print.
	ErrTooLarge = errors.New("tree is too large")
)
