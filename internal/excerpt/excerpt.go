// Package excerpt quotes the beginning of texts that others wrote, which may be of any length.
package excerpt

import "strings"

// Of is a text up to a number of bytes. What is longer is cut between two characters and ends in "…"; what is no character in it is left out.
func Of(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
