// Package forge tells the hosts of repositories, by their APIs, what becomes of changes: the status of a commit. GitHub, GitLab and Gitea
// (which Forgejo is one of) are each a dialect of one [Status].
package forge
