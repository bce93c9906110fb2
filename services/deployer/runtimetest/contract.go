//go:build linux

package runtimetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Contract holds the answers to the OpenAPI 3 document that the service itself serves.
type Contract struct {
	Path string `json:"path"`
	// Must fails where there is no document; else nothing is tested there.
	Must bool `json:"must,omitempty"`
}

// errRefused: what an operation answers to who may see it is not known.
var errRefused = errors.New("it wants credentials")

// errNotThere: there is nothing to test.
var errNotThere = errors.New("there is nothing to test")

const (
	mostDocument   = 8 << 20         // bytes
	mostOperations = 1000            // that are asked
	contractTime   = 2 * time.Minute // that all of them may take
)

type answer struct {
	status int
	header http.Header
	media  string
	body   []byte
	more   bool // than was read of the body
}

// ask reads the body of an answer, up to most bytes, where it is wanted: others may have no end.
func ask(ctx context.Context, client *http.Client, address string, header http.Header, most int, wanted func(answer) bool) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{}, err
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	got := answer{status: response.StatusCode, header: response.Header, media: media}
	if !wanted(got) {
		return got, nil
	}
	got.body, err = io.ReadAll(io.LimitReader(response.Body, int64(most)+1))
	got.more = len(got.body) > most
	return got, err
}

func (a answer) isJSON() bool {
	return a.media == "application/json" || strings.HasSuffix(a.media, "+json")
}

// contract asks each GET operation whose parameters the document gives values for: what others do might change something. An
// answer has to have a status, a media type and, in JSON, a form that the document names.
func contract(ctx context.Context, client *http.Client, instance Instance, test Contract, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, contractTime)
	defer cancel()
	got, err := ask(ctx, client, instance.URL+test.Path, http.Header{}, mostDocument, func(a answer) bool { return a.status == http.StatusOK })
	if err != nil {
		return err
	}
	if got.more {
		return fmt.Errorf("%s has more than %d bytes", test.Path, mostDocument)
	}
	d, err := openDocument(got)
	switch {
	case err != nil && !test.Must && (got.status != http.StatusOK || errors.Is(err, errNotThere)):
		return errNotThere
	case err != nil:
		return fmt.Errorf("%s: %s", test.Path, strings.TrimSuffix(err.Error(), ": "+errNotThere.Error()))
	}
	var failed failures
	all, err := d.operations()
	if err != nil {
		return fmt.Errorf("%s: %w", test.Path, err)
	}
	var tested, skipped, refused, unheld int
	var first notHeld
	for _, o := range all {
		request, header, err := d.request(o)
		if err != nil {
			skipped++
			continue
		}
		got, err := ask(ctx, client, instance.URL+request, header, mostHeld, answer.isJSON)
		if err == nil {
			err = d.check(ctx, o, got)
		}
		if ctx.Err() != nil { // what d has is not to be touched: it may still be at work
			return fmt.Errorf("not all of its %d operations answered within %s, %d did", len(all), contractTime, tested)
		}
		if errors.Is(err, errRefused) {
			refused++
			continue
		}
		tested++
		if why := notHeld(""); errors.As(err, &why) {
			unheld++
			first = cmp.Or(first, why)
			continue
		}
		if err != nil {
			failed.add(fmt.Sprintf("GET %.200s", request), err.Error())
		}
	}
	r.Values["unheld"] = float64(unheld)
	r.Values["tested"], r.Values["skipped"], r.Values["failed"], r.Values["refused"] = float64(tested), float64(skipped), float64(failed.count), float64(refused)
	switch {
	case failed.count > 0:
		return fmt.Errorf("%d of %d operations answer otherwise than %s says: %s", failed.count, tested, test.Path, failed.text())
	case tested == 0 && test.Must:
		return fmt.Errorf("%s has no GET operation that can be asked, %d want credentials: give the parameters of others examples", test.Path, refused)
	}
	if tested == unheld && test.Must {
		return fmt.Errorf("no answer could be held to %s: in %d of %d operations %w", test.Path, unheld, tested, first)
	}
	r.Reason = fmt.Sprintf("%d operations answer as %s says, %d were not asked: they have no example of a parameter", tested-unheld, test.Path, skipped)
	if refused > 0 {
		r.Reason += fmt.Sprintf("; %d want credentials, which the test has none of", refused)
	}
	if unheld > 0 {
		r.Reason += fmt.Sprintf("; %d are not held to their schema, the first since %s", unheld, first)
	}
	return nil
}

type object = map[string]any

// document is an OpenAPI document; refs within it are followed.
type document struct {
	root     object
	compiled *compiled
	wide     bool // schemas in it have names of their own, by which refs may lead anywhere
}

// parts are what an OpenAPI document is made of.
var parts = []string{"openapi", "info", "jsonSchemaDialect", "servers", "paths", "webhooks", "components", "security", "tags", "externalDocs"}

func openDocument(got answer) (document, error) {
	if got.status != http.StatusOK {
		return document{}, fmt.Errorf("it answers %d", got.status)
	}
	text, err := asJSON(got.body)
	if err != nil {
		return document{}, err
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return document{}, fmt.Errorf("it is no JSON: %w", errNotThere)
	}
	root, _ := parsed.(object)
	version, _ := root["openapi"].(string)
	if !strings.HasPrefix(version, "3.") {
		return document{}, fmt.Errorf("it is no OpenAPI 3 document: %w", errNotThere)
	}
	if !nestsIn(root, mostNested) {
		return document{}, errNested
	}
	if strings.HasPrefix(version, "3.0") {
		modern(root)
	}
	legible(root)
	maps.DeleteFunc(root, func(name string, _ any) bool { return strings.HasPrefix(name, "$") && name != "$defs" })
	d := document{root: root, wide: holds(root, identifies), compiled: &compiled{}}
	if err := d.answered(); err != nil {
		return document{}, err
	}
	whole := reach{refs: map[string]bool{}}
	for name, node := range root { // the whole is read as a schema too
		if !slices.Contains(parts, name) && !strings.HasPrefix(name, "x-") && !whole.add(d, node) {
			return document{}, fmt.Errorf("what is under %.40q is too large to be a schema", name)
		}
	}
	return d, nil
}

// modern writes what OpenAPI 3.0 had of its own as JSON Schema has it.
func modern(node any) {
	switch n := node.(type) {
	case []any:
		for _, one := range n {
			modern(one)
		}
	case object:
		for _, one := range n {
			modern(one)
		}
		if kind, ok := n["type"].(string); ok && n["nullable"] == true {
			n["type"] = []any{kind, "null"}
			if all, ok := n["enum"].([]any); ok {
				n["enum"] = append(slices.Clone(all), nil)
			}
		} else if n["nullable"] == true && n["type"] == nil && slices.ContainsFunc(combining, func(name string) bool { return n[name] != nil }) {
			orNull(n)
		}
		for exclusive, bound := range map[string]string{"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"} {
			if is, ok := n[exclusive].(bool); ok {
				if delete(n, exclusive); is {
					n[exclusive] = n[bound]
					delete(n, bound)
				}
			}
		}
	}
}

// combining are the words of schemas that have no type of their own, and may refuse null.
var combining = []string{"$ref", "allOf", "anyOf", "oneOf", "not", "enum"}

// orNull is for what has no type of its own.
func orNull(schema object) {
	same := maps.Clone(schema)
	maps.DeleteFunc(schema, func(name string, _ any) bool {
		return !slices.Contains([]string{"readOnly", "writeOnly", "deprecated", "default", "example", "description"}, name)
	})
	schema["anyOf"] = []any{same, object{"type": "null"}}
}

// mostCombined are the schemas that are looked at for what is for requests alone, over and over where they are combined.
const mostCombined = 8 << 20

// answered takes out of required what is for requests alone: also where the one schema requires what another one, with which it is
// combined, describes. A schema that is referred to for that loses it for all.
func (d document) answered() error {
	left := mostCombined
	var visit func(node any)
	visit = func(node any) {
		switch n := node.(type) {
		case []any:
			for _, one := range n {
				visit(one)
			}
		case object:
			for _, one := range n {
				visit(one)
			}
			_, required := n["required"].([]any)
			if !required && n["allOf"] == nil && n["anyOf"] == nil {
				return
			}
			unasked := map[string]bool{}
			d.combined(n, &left, func(with object) {
				properties, _ := with["properties"].(object)
				for name, p := range properties {
					alone := false
					d.combined(p, &left, func(of object) { alone = alone || of["writeOnly"] == true })
					if alone {
						unasked[name] = true
					}
				}
			})
			if len(unasked) == 0 {
				return
			}
			d.combined(n, &left, func(with object) {
				if all, ok := with["required"].([]any); ok {
					left -= len(all)
					with["required"] = slices.DeleteFunc(all, func(name any) bool {
						text, _ := name.(string)
						return unasked[text]
					})
				}
			})
		}
	}
	if !holds(d.root, func(name string, value any) bool { return name == "writeOnly" && value == true }) {
		return nil
	}
	if visit(d.root); left < 0 {
		return errors.New("its schemas are combined of too many others")
	}
	return nil
}

// combined calls do with a schema and with all that it is combined of by refs, allOf and anyOf, each ref once.
func (d document) combined(schema any, left *int, do func(object)) {
	seen := map[string]bool{}
	for todo := []any{schema}; len(todo) > 0 && *left >= 0; *left-- {
		o, _ := todo[len(todo)-1].(object)
		todo = todo[:len(todo)-1]
		if o == nil {
			continue
		}
		do(o)
		if ref, _ := o["$ref"].(string); strings.HasPrefix(ref, "#") && !seen[ref] {
			seen[ref] = true
			todo = append(todo, d.find(ref[1:]))
		}
		for _, name := range []string{"allOf", "anyOf"} {
			all, _ := o[name].([]any)
			todo = append(todo, all...)
		}
	}
}

// at follows refs within the document, from a node that is at a JSON pointer.
func (d document) at(pointer string, node any) (string, object) {
	for range 10 {
		o, _ := node.(object)
		ref, ok := o["$ref"].(string)
		if !ok {
			return pointer, o
		}
		pointer, ok = strings.CutPrefix(ref, "#")
		if !ok {
			return "", nil
		}
		node = d.find(pointer)
	}
	return "", nil
}

const mostPointer = 4096 // bytes: many may refer to what has the longest

// find is what is at a JSON pointer, as a URL has it and as the library of schemas reads it.
func (d document) find(pointer string) (node any) {
	if len(pointer) > mostPointer {
		return nil
	}
	pointer, _ = url.PathUnescape(pointer)
	if node = d.root; pointer == "" {
		return node
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch within := node.(type) {
		case object:
			node = within[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(within) {
				return nil
			}
			node = within[i]
		default:
			return nil
		}
	}
	return node
}

func step(pointer, name string) string {
	return pointer + "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
}

type operation struct {
	path, pointer string
	item, get     object
}

func (d document) operations() (all []operation, err error) {
	paths, _ := d.root["paths"].(object)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if strings.HasPrefix(path, "x-") {
			continue // somebody's own
		}
		pointer, item := d.at(step("/paths", path), paths[path])
		switch get, ok := item["get"].(object); {
		case !strings.HasPrefix(path, "/"): // behind the address of the service it would make another one
			return nil, fmt.Errorf("the path %.200q does not begin with /", path)
		case item == nil:
			return nil, fmt.Errorf("what %.200s refers to is not within the document", path)
		case ok:
			all = append(all, operation{path, pointer + "/get", item, get})
		}
	}
	if len(all) > mostOperations {
		return nil, fmt.Errorf("it has %d GET operations; there may be %d", len(all), mostOperations)
	}
	return all, nil
}

// request is the path of an operation with the values that the document gives its parameters.
func (d document) request(o operation) (string, http.Header, error) {
	path, query, header := d.base(o)+o.path, url.Values{}, http.Header{}
	needed := map[string]object{} // those of the operation replace those of its path
	for _, of := range []object{o.item, o.get} {
		list, _ := of["parameters"].([]any)
		for _, one := range list {
			_, p := d.at("", one)
			needed[fmt.Sprint(p["in"], " ", p["name"])] = p
		}
	}
	for _, p := range needed {
		name, _ := p["name"].(string)
		if p["required"] != true && p["in"] != "path" {
			continue
		}
		value, ok := d.example(p)
		switch in, _ := p["in"].(string); {
		case !ok:
			return "", nil, fmt.Errorf("%s has no example", name)
		case in == "path":
			if path, ok = filled(path, name, url.PathEscape(value)); !ok {
				return "", nil, errors.New("its address is too long")
			}
		case in == "query":
			query.Set(name, value)
		case in == "header":
			header.Set(name, value)
		default:
			return "", nil, fmt.Errorf("%s is in %s", name, in)
		}
	}
	if strings.Contains(path, "{") {
		return "", nil, errors.New("a parameter of the path is not described")
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path, header, nil
}

const mostAddress = 64 << 10 // bytes: few variables that hold others fill more than there is memory for

func filled(address, name, value string) (string, bool) {
	name = "{" + name + "}"
	if len(address)+strings.Count(address, name)*len(value) > mostAddress {
		return "", false
	}
	return strings.ReplaceAll(address, name, value), true
}

// base is the path of the first server that the document names.
func (d document) base(o operation) string {
	for _, of := range []object{o.get, o.item, d.root} {
		servers, _ := of["servers"].([]any)
		if len(servers) == 0 {
			continue
		}
		first, _ := servers[0].(object)
		address, _ := first["url"].(string)
		variables, _ := first["variables"].(object)
		for name, v := range variables {
			of, _ := v.(object)
			address, _ = filled(address, name, fmt.Sprint(of["default"]))
		}
		if u, err := url.Parse(address); err == nil {
			return strings.TrimSuffix("/"+strings.TrimPrefix(u.EscapedPath(), "/"), "/")
		}
	}
	return ""
}

// example is the value of a parameter that the document gives.
func (d document) example(p object) (string, bool) {
	_, schema := d.at("", p["schema"])
	candidates := []any{p["example"]}
	if named, _ := p["examples"].(object); len(named) > 0 {
		_, one := d.at("", named[slices.Min(slices.Collect(maps.Keys(named)))])
		candidates = append(candidates, one["value"])
	}
	candidates = append(candidates, schema["example"], schema["default"], schema["const"])
	for _, list := range []string{"examples", "enum"} {
		if all, _ := schema[list].([]any); len(all) > 0 {
			candidates = append(candidates, all[0])
		}
	}
	for _, c := range candidates {
		switch c.(type) {
		case nil, object, []any:
		default:
			if text := fmt.Sprint(c); len(text) <= mostAddress {
				return text, true
			}
		}
	}
	return "", false
}

// check says how an answer differs from what the document says of the operation.
func (d document) check(ctx context.Context, o operation, got answer) error {
	responses, _ := o.get["responses"].(object)
	code := fmt.Sprint(got.status)
	if got.status == http.StatusUnauthorized || got.status == http.StatusForbidden {
		if _, named := responses[code]; !named && d.secured(o) {
			return errRefused // as it should be
		}
	}
	key := ""
	for _, candidate := range []string{code, code[:1] + "XX", "default"} {
		if _, ok := responses[candidate]; ok && (candidate != "default" || got.status < 500) {
			key = candidate
			break
		}
	}
	if key == "" {
		return fmt.Errorf("answers %d, and it names %s", got.status, strings.Join(slices.Sorted(maps.Keys(responses)), ", "))
	}
	pointer, response := d.at(step(o.pointer+"/responses", key), responses[key])
	if response == nil {
		return fmt.Errorf("answers %d, and what it refers to for that is not within the document", got.status)
	}
	headers, _ := response["headers"].(object)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if _, h := d.at("", headers[name]); h["required"] == true && got.header.Get(name) == "" {
			return fmt.Errorf("answers %d without the header %s", got.status, name)
		}
	}
	content, _ := response["content"].(object)
	if len(content) == 0 {
		return nil
	}
	kind, _, _ := strings.Cut(got.media, "/")
	for _, as := range []string{got.media, kind + "/*", "*/*"} { // what says most goes first
		for _, name := range slices.Sorted(maps.Keys(content)) {
			if media, _, _ := mime.ParseMediaType(name); media != as {
				continue
			}
			if shape, _ := content[name].(object); shape["schema"] == nil || !got.isJSON() {
				return nil
			}
			return d.shaped(ctx, step(pointer+"/content", name)+"/schema", got)
		}
	}
	return fmt.Errorf("answers %d as %q, and it names %s", got.status, got.media, strings.Join(slices.Sorted(maps.Keys(content)), ", "))
}

func (d document) secured(o operation) bool {
	asked, own := o.get["security"].([]any)
	if !own {
		asked, _ = d.root["security"].([]any)
	}
	return len(asked) > 0 && !slices.ContainsFunc(asked, func(one any) bool { o, ok := one.(object); return ok && len(o) == 0 })
}

// oneLine leaves out which schema it was, which is a pointer into the document.
func oneLine(err error) string {
	first, rest, more := strings.Cut(err.Error(), "\n")
	if !more {
		return first
	}
	parts := strings.Split(rest, "\n")
	for i := range parts {
		parts[i] = strings.TrimPrefix(strings.TrimSpace(parts[i]), "- ")
	}
	return strings.Join(parts[:min(len(parts), 3)], ", ")
}
