package survey_test

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/lemnis/lemnis/services/builder/survey"
)

func tree(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

var shop = tree(map[string]string{
	"go.mod":                "module example.org/shop // a shop\n",
	"README.md":             "",
	"price/price.go":        "package price\n",
	"price/testdata/a.json": "",
	"cart/cart.go":          "package cart\n\nimport \"example.org/shop/price\"\n",
	"cart/cart_test.go":     "package cart\n\nimport \"example.org/shop/fixture\"\n",
	"fixture/fixture.go":    "package fixture\n\nimport (\n\t\"fmt\"\n\t\"example.org/shop/clock\"\n)\n",
	"clock/clock.go":        "package clock\n",
	"page/page.go":          "package page\n\nimport \"example.org/shop/cart\"\n",
	"mail/mail.go":          "package mail\n\nimport \"example.org/shopping/price\"\n",
	"tool/go.mod":           "module example.org/tool\n",
	"tool/tool.go":          "package main\n\nimport \"example.org/shop/mail\"\n",
	"bad/bad.go":            "not Go\n",
	"docs/a/index.md":       "",
	"web/app.js":            "",
	"vendor/x/x.go":         "package x\n",
})

func TestOf(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		files, writes, reads []string
	}{
		"imported":             {[]string{"price/price.go"}, []string{"price"}, []string{"cart", "clock", "fixture", "page", "price"}},
		"imported by a test":   {[]string{"clock/clock.go"}, []string{"clock"}, []string{"cart", "clock", "fixture", "price"}},
		"imported by nobody":   {[]string{"page/page.go"}, []string{"page"}, []string{"cart", "page", "price"}},
		"by another module":    {[]string{"mail/mail.go"}, []string{"mail"}, []string{"mail", "tool"}},
		"data of a package":    {[]string{"price/testdata/a.json"}, []string{"price"}, []string{"cart", "clock", "fixture", "page", "price"}},
		"a package that left":  {[]string{"gone/gone.go"}, []string{"gone"}, []string{"gone"}},
		"two":                  {[]string{"mail/mail.go", "docs/a/index.md"}, []string{"docs/", "mail"}, []string{"docs/", "mail", "tool"}},
		"the innermost lane":   {[]string{"docs/a/index.md"}, []string{"docs/"}, []string{"docs/"}},
		"not Go":               {[]string{"bad/bad.go"}, []string{"bad"}, []string{"bad"}},
		"a module":             {[]string{"tool/go.mod"}, []string{"*"}, nil},
		"at the root":          {[]string{"README.md"}, []string{"*"}, nil},
		"in no lane":           {[]string{"web/app.js"}, []string{"*"}, nil},
		"what others wrote":    {[]string{"vendor/x/x.go"}, []string{"*"}, nil},
		"one of many, unknown": {[]string{"price/price.go", "web/app.js"}, []string{"*"}, nil},
	}
	for name, c := range cases {
		got, err := survey.Of(shop, c.files, []string{"docs", "doc"})
		if err != nil || !slices.Equal(got.Writes, c.writes) || !slices.Equal(got.Reads, c.reads) || (got.Reason != "") != (c.reads == nil) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
