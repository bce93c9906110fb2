package access

import (
	"fmt"
	"slices"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Equal reports whether both are the same with the same scopes.
func (i Identity) Equal(other Identity) bool {
	return i.Principal == other.Principal && slices.Equal(i.Scopes, other.Scopes)
}

// OfKeyring are the outside principals of a keyring, and what they may claim.
func OfKeyring(k natsd.Keyring) ([]Identity, error) {
	var all []Identity
	for _, e := range k.Entries {
		if e.Service {
			continue
		}
		if err := CheckName(e.Name); err != nil {
			return nil, err
		}
		who := Identity{Principal: e.Name}
		for _, text := range e.Scopes {
			s, err := ParseScope(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Name, err)
			}
			who.Scopes = append(who.Scopes, s)
		}
		all = append(all, who)
	}
	return all, nil
}

// Reads are the projects that the scopes let somebody read, as a keyring names them.
func Reads(scopes []Scope) []string {
	var projects []string
	for _, s := range scopes {
		switch {
		case s.Action != Read && s.Action != Admin:
		case s.Project == Any:
			return []string{natsd.AnyProject}
		default:
			projects = append(projects, s.Project)
		}
	}
	slices.Sort(projects)
	return slices.Compact(projects)
}
