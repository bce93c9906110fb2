package subscription

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// predicate judges a fact. An error means that it could not be judged; the fact is not delivered then.
type predicate func(*item) (bool, error)

const dialects = "exact, prefix, suffix, all, any, not, cel"

// deepest is how far filters nest.
const deepest = 8

// compileAll makes one predicate of filters that all have to match; of none, one that lets everything through.
func compileAll(filters []json.RawMessage) (predicate, error) {
	c := compiler{left: mostFilters}
	all, err := c.list("filters", filters, 0)
	if err != nil {
		return nil, err
	}
	return every(all), nil
}

// compiler counts what it makes.
type compiler struct{ left int }

func (c *compiler) list(field string, filters []json.RawMessage, depth int) ([]predicate, error) {
	out := make([]predicate, len(filters))
	for i, f := range filters {
		var err error
		if out[i], err = c.one(fmt.Sprintf("%s[%d]", field, i), f, depth); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// one compiles a filter: an object with its dialect as the only member.
func (c *compiler) one(field string, text json.RawMessage, depth int) (predicate, error) {
	if c.left--; c.left < 0 {
		return nil, fail(field, "is one filter too many; %d at most", mostFilters)
	}
	if depth >= deepest {
		return nil, fail(field, "nests deeper than %d", deepest)
	}
	var member map[string]json.RawMessage
	if err := json.Unmarshal(text, &member); err != nil || len(member) != 1 {
		return nil, fail(field, "has to be an object with one dialect (%s) and its value", dialects)
	}
	var dialect string
	var value json.RawMessage
	for dialect, value = range member {
		field += "." + clip(dialect)
	}
	switch dialect {
	case "exact":
		return attributes(field, value, func(a, b string) bool { return a == b })
	case "prefix":
		return attributes(field, value, strings.HasPrefix)
	case "suffix":
		return attributes(field, value, strings.HasSuffix)
	case "all", "any":
		var nested []json.RawMessage
		if err := json.Unmarshal(value, &nested); err != nil || len(nested) == 0 {
			return nil, fail(field, "has to be an array of at least one filter")
		}
		list, err := c.list(field, nested, depth+1)
		if err != nil {
			return nil, err
		}
		if dialect == "all" {
			return every(list), nil
		}
		return some(list), nil
	case "not":
		p, err := c.one(field, value, depth+1)
		if err != nil {
			return nil, err
		}
		return func(i *item) (bool, error) { ok, err := p(i); return !ok && err == nil, err }, nil
	case "cel":
		var expression string
		if err := json.Unmarshal(value, &expression); err != nil {
			return nil, fail(field, "has to be an expression in a string")
		}
		return compileCEL(field, expression)
	}
	return nil, fail(field, "is no dialect that is supported; there are %s", dialects)
}

// attributes compares CloudEvents attributes, all of those given, with text.
func attributes(field string, value json.RawMessage, same func(have, want string) bool) (predicate, error) {
	want := map[string]string{}
	d := json.NewDecoder(bytes.NewReader(value))
	if err := d.Decode(&want); err != nil || len(want) == 0 {
		return nil, fail(field, "has to be an object of attributes and the text that they are compared with")
	}
	names := make([]string, 0, len(want))
	for name, text := range want {
		at := field + "." + clip(name)
		if !isAttribute(name) {
			return nil, fail(at, "is no name of a CloudEvents attribute: lower-case letters and digits, 1 to 20")
		}
		if text == "" {
			return nil, fail(at, "may not be empty")
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return func(i *item) (bool, error) {
		for _, name := range names {
			have, ok := i.attributes[name]
			if !ok || !same(have, want[name]) {
				return false, nil
			}
		}
		return true, nil
	}, nil
}

func isAttribute(name string) bool {
	return name != "" && len(name) <= 20 && strings.IndexFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0
}

func every(list []predicate) predicate {
	return func(i *item) (bool, error) {
		var errs []error
		for _, p := range list {
			ok, err := p(i)
			if err != nil {
				errs = append(errs, err)
			} else if !ok {
				return false, nil // whatever the others would say
			}
		}
		return len(errs) == 0, errors.Join(errs...)
	}
}

func some(list []predicate) predicate {
	return func(i *item) (bool, error) {
		var errs []error
		for _, p := range list {
			ok, err := p(i)
			if err != nil {
				errs = append(errs, err)
			} else if ok {
				return true, nil
			}
		}
		return false, errors.Join(errs...)
	}
}
