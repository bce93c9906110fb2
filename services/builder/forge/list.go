package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	pageSize   = 50       // proposals; Gitea gives no more
	longPage   = 32 << 20 // bytes of a page that are read: a description may have a megabyte
	longestTag = 256
)

// Page is one page of the proposals that are open, the newest first.
type Page struct {
	Proposals []proposal.Proposal
	Bad       []string // what is wrong with those that can not be read
	Tag       string   // by which it is known again; empty: the forge gives none
	Last      bool
	Same      bool // it is as it was when it had the tag, and is not told again
}

var (
	listing = asked{"the list of open changes", "the token may not read changes there", "the token does not see the repository"}
	looking = asked{"a change", "the token may not read changes there", ""}
)

// proposals is where a forge has the proposals of a repository, and how it is asked for those that are open.
func (p Place) proposals() (path string, open url.Values) {
	path = dialects[p.kind].project(p.path)
	switch p.kind {
	case events.ForgeGitLab:
		path += "/merge_requests"
		open = url.Values{"state": {"opened"}, "order_by": {"created_at"}, "sort": {"desc"}, "per_page": {strconv.Itoa(pageSize)}}
	case events.ForgeGitHub:
		path += "/pulls"
		open = url.Values{"state": {"open"}, "sort": {"created"}, "direction": {"desc"}, "per_page": {strconv.Itoa(pageSize)}}
	default: // Gitea's begin with the newest
		path += "/pulls"
		open = url.Values{"state": {"open"}, "limit": {strconv.Itoa(pageSize)}}
	}
	return path, open
}

// List reads a page of open proposals, from 1; tag is that of the page when it was read before. Its errors are those of [Client.Tell], and
// [Unreadable] where the answer is no such page.
func (c *Client) List(ctx context.Context, p Place, token string, page int, tag string) (Page, error) {
	path, query := p.proposals()
	query.Set("page", strconv.Itoa(page))
	r, err := p.ask(http.MethodGet, path+"?"+query.Encode(), token, nil)
	if err != nil {
		return Page{}, refusal(err)
	}
	if tag != "" {
		r.Header.Set("If-None-Match", tag)
	}
	response, err := c.do(ctx, p, r)
	if err != nil {
		return Page{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusNotModified && tag != "" {
		return Page{Same: true, Tag: tag}, nil
	}
	if err := p.judge(response, token, listing); err != nil {
		return Page{}, err
	}
	got := Page{Tag: response.Header.Get("ETag")}
	if len(got.Tag) > longestTag {
		got.Tag = ""
	}
	if got.Proposals, got.Bad, err = p.read(response.Body); err != nil {
		return Page{}, &Unreadable{fmt.Sprintf("%s: the list of open changes of %s can not be read: %v", p.Host(), p.path, err)}
	}
	got.Last = last(response.Header, len(got.Proposals)+len(got.Bad))
	return got, nil
}

// read reads a list one by one, so that no more is held than what is kept of it.
func (p Place) read(body io.Reader) (all []proposal.Proposal, bad []string, err error) {
	bound := &io.LimitedReader{R: body, N: longPage}
	defer func() {
		if err != nil && bound.N <= 0 {
			err = fmt.Errorf("a page has more than %d MiB", longPage>>20)
		}
	}()
	d := json.NewDecoder(bound)
	if begin, err := d.Token(); err != nil || begin != json.Delim('[') {
		return nil, nil, errors.Join(errors.New("it is no list"), err)
	}
	for d.More() {
		var text json.RawMessage
		if err := d.Decode(&text); err != nil {
			return nil, nil, err
		}
		if len(all)+len(bad) == 2*pageSize {
			return nil, nil, fmt.Errorf("a page has more than the %d changes that were asked for", pageSize)
		}
		one, err := proposal.Read(p.kind, text)
		if err != nil {
			bad = append(bad, named(text)+": "+err.Error())
			continue
		}
		all = append(all, one)
	}
	_, err = d.Token()
	return all, bad, err
}

// named is a proposal that can not be read, by its number where it has one.
func named(text []byte) string {
	var one struct{ Number, IID int64 }
	if json.Unmarshal(text, &one) == nil && max(one.Number, one.IID) > 0 {
		return "change " + strconv.FormatInt(max(one.Number, one.IID), 10)
	}
	return "a change"
}

// last reports whether no page follows: by the links, which all of the forges give, or where a proxy has taken them by how full it is.
func last(h http.Header, n int) bool {
	links := strings.Join(h.Values("Link"), ",")
	return !strings.Contains(links, `rel="next"`) && (links != "" || n < pageSize)
}

// Get reads one proposal, whatever has become of it; false when the forge has none of that number. Its errors are those of [Client.List].
func (c *Client) Get(ctx context.Context, p Place, token string, number int64) (proposal.Proposal, bool, error) {
	path, _ := p.proposals()
	r, err := p.ask(http.MethodGet, path+"/"+strconv.FormatInt(number, 10), token, nil)
	if err != nil {
		return proposal.Proposal{}, false, refusal(err)
	}
	response, err := c.do(ctx, p, r)
	if err != nil {
		return proposal.Proposal{}, false, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusNotFound {
		return proposal.Proposal{}, false, nil
	}
	if err := p.judge(response, token, looking); err != nil {
		return proposal.Proposal{}, false, err
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, longPage))
	var one proposal.Proposal
	if err == nil {
		one, err = proposal.Read(p.kind, text)
	}
	if err == nil && one.Number != number {
		err = fmt.Errorf("it is number %d", one.Number)
	}
	if err != nil {
		return proposal.Proposal{}, false, &Unreadable{fmt.Sprintf("change %d: %v", number, err)}
	}
	return one, true, nil
}
