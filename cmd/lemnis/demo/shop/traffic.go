package shop

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
)

var (
	searches = []string{"Mug", "mug", "dotted notebook", "Notebook", "pen", "card", "Ink", "A5"}
	products = []string{
		"mug", "pen", "ink", "eraser", "notebook-a4", "notebook-a5", "notebook-a6", "envelope", "calendar", "postcard",
	}
)

// Visit is one request of one user.
type Visit struct {
	User   string // the same user comes back: stickiness needs a name
	Method string
	Path   string // with the query
	Body   string // JSON, or empty
}

// Traffic returns the n-th visit of the shop's users, the same for the same n: of users numbered
// 0 to users-1, half of the visits search, half buy one to three of one product. With fast-checkout
// some 10 % of all visits fail.
func Traffic(n uint64, users int) Visit {
	// A generator of its own for each n: no order to keep.
	chance := rand.New(rand.NewPCG(n, 0x10bb5)) //nolint:gosec // the same n must give the same visit
	v := Visit{User: fmt.Sprintf("user-%d", chance.IntN(max(users, 1)))}
	if chance.IntN(2) == 0 {
		v.Method, v.Path = http.MethodGet, "/search?q="+url.QueryEscape(searches[chance.IntN(len(searches))])
		return v
	}
	type line struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	}
	body, err := json.Marshal(map[string][]line{"lines": {{products[chance.IntN(len(products))], 1 + chance.IntN(3)}}})
	if err != nil {
		panic(err) // strings and numbers only
	}
	v.Method, v.Path, v.Body = http.MethodPost, "/checkout", string(body)
	return v
}

// Request returns the visit as a request to the service at base (http://host:port).
func (v Visit) Request(ctx context.Context, base string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, v.Method, base+v.Path, strings.NewReader(v.Body))
	if err != nil {
		return nil, err
	}
	if v.Body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}
