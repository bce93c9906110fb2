// Package git is the builder's view of a source repository: it merges, compares and advances
// branches over the git command, without ever having a work tree of its own.
//
//	repo, err := git.Open(ctx, "data/shop.git", "https://git.example.org/shop.git")
//	base, err := repo.Head(ctx, "main")
//	head, err := repo.Head(ctx, "improve-search")
//	tree, conflicts, err := repo.MergeTree(ctx, base, head)
//	commit, err := repo.CommitMerge(ctx, git.Merge{Tree: tree, Base: base, Head: head, …})
//	err = repo.Advance(ctx, "main", base, commit) // ErrMoved: somebody was faster, start again
//
// Objects that have a file of their own are read from it, others through a git process that stays: sixteen of all repositories at most,
// each until nobody has asked it for ten minutes. An origin on this machine is read where it lies, without its configuration, and its branches as they stand; the mirror
// gets a copy when a branch is advanced. Any other origin is fetched.
//
// What a repository holds is written by others. Therefore git runs without the host's
// configuration, hooks, prompts and transport helpers; names that could be read as an option or a
// revision expression are refused; and a checkout is written by this package, not by git, so that
// no filter runs and nothing lands outside of the folder.
//
// A repository opened in place (without a URL) is trusted as far as its own config file goes: git
// reads it. A mirror's config is written here. When a mirror pushes, the hooks of the receiving
// repository run on its side, as they do for everybody.
package git
