package demo

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/demo/shop"
	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/pkg/events"
)

// shoppers is how many users the shop has.
const shoppers = 400

// Shop creates the shop's repository in dir, as what a lap is turned on.
func Shop(ctx context.Context, dir string) (lap.Subject, error) {
	bare, err := shop.Create(ctx, dir)
	if err != nil {
		return lap.Subject{}, err
	}
	head := func(branch string) (commit string) {
		if err == nil {
			commit, err = gitOutput(ctx, bare, "rev-parse", "--verify", "refs/heads/"+branch)
		}
		return commit
	}
	s := lap.Subject{
		Service: "shop", Feature: "search",
		Project: project("shop", bare, ""),
		Feedback: []lap.Voice{
			{User: "ada@example.org", Text: "The search is broken: I type mug and the result is empty.", Rating: 2},
			{User: "ben@example.org", Text: "Search fails when I write notebook in small letters.", Rating: 1},
			{User: "cleo@example.org", Text: "An empty result again, something is wrong with the search.", Rating: 2},
		},
		Wish: "A faster checkout",
		Good: lap.Change{ID: "shop-1", Branch: shop.ImproveSearch, Head: head(shop.ImproveSearch), Title: "Find products by words, whatever their case", Author: "ann"},
		Bad:  lap.Change{ID: "shop-2", Branch: shop.FastCheckout, Head: head(shop.FastCheckout), Title: "Keep prices in a cache", Author: "bo"},
		Visit: func(ctx context.Context, n uint64, base string) (*http.Request, error) {
			v := shop.Traffic(n, shoppers)
			r, err := v.Request(ctx, base)
			if err == nil {
				r.Header.Set("X-User", v.User)
			}
			return r, err
		},
	}
	s.Project.Features = []events.Feature{{Name: "search", Service: "shop", Path: "/search?q=mug"}}
	dev, test, prod := &s.Project.Environments[0], &s.Project.Environments[1], &s.Project.Environments[2]
	dev.Gate.Tests, test.Gate.Tests, prod.Gate.Tests = "passed", "passed", "passed"
	test.Gate.Coverage, prod.Gate.Coverage = 60, 70
	return s, err
}

// project has three environments, each with a stricter gate, and a canary in the last that decides within seconds.
func project(name, url, main string) events.Project {
	runtime := func(requests int) *events.RuntimeTests { return &events.RuntimeTests{Requests: requests} }
	return events.Project{
		Name:         name,
		Repositories: []events.RepositoryRef{{Name: name, URL: url, Branch: "main", Main: main}},
		Review:       events.ReviewPolicy{Approvals: 1},
		Environments: []events.Environment{
			{Name: "dev", Target: "process", Runtime: runtime(50)},
			{Name: "test", Target: "process", Gate: events.Gate{Runtime: "passed"}, Runtime: runtime(100)},
			{Name: "prod", Target: "process", Strategy: "canary", Gate: events.Gate{Runtime: "passed", Approvals: 1, Signature: "verified"}, Runtime: runtime(200),
				// 99 % and some seconds: a real service would ask for more, and take its time.
				Canary: &events.CanaryPolicy{Objective: 0.99, Deadline: events.Duration(6 * time.Second), Tick: events.Duration(500 * time.Millisecond)}},
		},
		Objectives: []events.Objective{{Service: name, Availability: 0.99}},
		Capacity:   events.Capacity{Points: 40},
		Feedback:   events.FeedbackPolicy{Users: 3},
	}
}

// subject is the shop, or a copy of the user's repository.
func subject(ctx context.Context, o Options, dir string) (lap.Subject, error) {
	dir = filepath.Join(dir, "origin")
	if o.Repo == "" {
		s, err := Shop(ctx, dir)
		if err != nil {
			return s, fmt.Errorf("create the shop: %w", err)
		}
		return s, nil
	}
	s, err := own(ctx, o, dir)
	if err != nil {
		return s, fmt.Errorf("repository %s: %w", o.Repo, err)
	}
	return s, nil
}
