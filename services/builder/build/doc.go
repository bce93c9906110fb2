// Package build decides on builds: each merge into the master copy is packaged, and so is the
// master copy as it stands when a repository joins, so that there is something to compare with.
package build
