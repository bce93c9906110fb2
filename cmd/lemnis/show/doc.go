// Package show puts events into words for people: one line an event, the tree of what caused what, and how long each
// phase worked and waited. It is pure: events in, text out.
package show
