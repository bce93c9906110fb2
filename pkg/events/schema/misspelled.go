package schema

import (
	"fmt"
	"strings"
)

// nearly finds the member that encoding/json, to which case does not count, takes a name for that is not its own; empty
// when there is none. Of an object whose schema names no members, every name counts as it is.
func (s *shape) nearly(name string) string {
	if len(s.members) == 0 {
		return ""
	}
	if _, ok := s.members[name]; ok {
		return ""
	}
	for own := range s.members {
		if strings.EqualFold(own, name) {
			return own
		}
	}
	return ""
}

// misspelled looks for such names in all of a value: the schema lets them through, and what reads the event acts on them.
func (s *shape) misspelled(value any, path string, depth int) error {
	if s == whatever || depth > deepest {
		return nil
	}
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			if own := s.nearly(name); own != "" {
				return fmt.Errorf("%s%s: is not a member; %s is, and case counts", path, name, own)
			}
			of := s.others
			if m, ok := s.members[name]; ok {
				of = m.shape
			}
			if of == nil {
				continue
			}
			if err := of.misspelled(inner, path+name+".", depth+1); err != nil {
				return err
			}
		}
	case []any:
		for i, inner := range v {
			if err := s.items.misspelled(inner, fmt.Sprintf("%s%d.", path, i), depth+1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	for _, more := range [][]*shape{s.also, s.either} {
		for _, other := range more {
			if err := other.misspelled(value, path, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
