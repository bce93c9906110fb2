//go:build linux

package runtimetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

const (
	mostYAML   = 1 << 20 // bytes: reading it takes a hundred times as many
	mostNested = 100     // levels of a document or of an answer: what YAML takes grows with their square, and so do errors of schemas
)

var errNoYAML = fmt.Errorf("it is neither JSON nor YAML: %w", errNotThere)

// errNested: what nests so deep is not looked at.
var errNested = fmt.Errorf("it nests deeper than %d levels", mostNested)

// asJSON leaves to YAML only what can not be JSON.
func asJSON(text []byte) ([]byte, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if start := bytes.TrimSpace(text); json.Valid(text) || bytes.HasPrefix(start, []byte("{")) || bytes.HasPrefix(start, []byte("[")) {
		return text, nil
	}
	return fromYAML(text)
}

// fromYAML takes no aliases: few of them unfold to more than there is memory for.
func fromYAML(text []byte) (written []byte, err error) {
	defer func() {
		if recover() != nil { // the parser's own faults are not to end the deployer
			written, err = nil, errNoYAML
		}
	}()
	if len(text) > mostYAML {
		return nil, fmt.Errorf("it has %d bytes and is no JSON; in YAML there may be %d: %w", len(text), mostYAML, errNotThere)
	}
	if err := scanned(text); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errNotThere) // it may be any text
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil || len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil {
		return nil, errNoYAML
	}
	if len(ast.Filter(ast.AliasType, parsed.Docs[0].Body)) > 0 {
		return nil, errors.New("aliases of YAML are not taken: write it out")
	}
	if written, err = yaml.YAMLToJSON(text); err != nil {
		return nil, errNoYAML
	}
	return written, nil
}

// scanned asks the scanner of the parser, which keeps nothing, since 64 KiB of brackets take the parser 3 GiB, and many documents hours.
func scanned(text []byte) error {
	const bracket, within = 0, -1 // in open, beside the columns at which blocks begin
	var open []int
	var documents, brackets, properties int // properties of a node, tags and anchors, are parsed as nodes around it
	last := &token.Token{Position: &token.Position{}}
	until := func(end func(int) bool) {
		for len(open) > 0 && !end(open[len(open)-1]) {
			open = open[:len(open)-1]
		}
	}
	var s scanner.Scanner
	for s.Init(string(text)); ; {
		some, err := s.Scan()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("it is neither JSON nor YAML")
		}
		for _, t := range some {
			switch t.Type {
			case token.CommentType, token.SpaceType:
				continue
			case token.AnchorType, token.TagType:
				properties++
			default:
				if last.Type != token.AnchorType { // else it is its name
					properties = 0
				}
			}
			switch t.Type {
			case token.DocumentHeaderType:
				if documents++; documents > 1 {
					return errors.New("it is more than one document of YAML")
				}
			case token.SequenceStartType, token.MappingStartType:
				open, brackets = append(open, bracket), brackets+1
			case token.SequenceEndType, token.MappingEndType, token.CollectEntryType:
				if brackets == 0 {
					break
				}
				until(func(at int) bool { return at == bracket })
				if t.Type != token.CollectEntryType {
					open, brackets = open[:len(open)-1], brackets-1
				}
			case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
				if brackets > 0 {
					open = append(open, within)
					break
				}
				column := t.Position.Column
				if t.Type == token.MappingValueType && last.Position.Line == t.Position.Line {
					column = min(column, last.Position.Column) // where its key is
				}
				until(func(at int) bool { return at <= column })
				if len(open) == 0 || open[len(open)-1] < column {
					open = append(open, column)
				}
			default:
			}
			if len(open)+properties > mostNested {
				return errNested
			}
			last = t
		}
	}
}

// nestsIn says whether what was decoded has no more than levels of arrays and objects.
func nestsIn(node any, levels int) bool {
	switch n := node.(type) {
	case []any:
		return levels > 0 && !slices.ContainsFunc(n, func(one any) bool { return !nestsIn(one, levels-1) })
	case object:
		for _, one := range n {
			if !nestsIn(one, levels-1) {
				return false
			}
		}
		return levels > 0
	}
	return true
}
