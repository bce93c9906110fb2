// Package run decides on the pipeline runs of the merge queue: one for each round of a change.
package run
