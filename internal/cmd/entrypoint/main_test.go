package main

import (
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	for args, want := range map[string]string{
		"":                           "redis-server",
		"--save 1":                   "redis-server --save 1",
		"/etc/redis.conf":            "redis-server /etc/redis.conf",
		"redis-cli ping":             "redis-cli ping",
		"redis-server /etc/any.conf": "redis-server /etc/any.conf",
	} {
		if got, err := command("redis-server", strings.Fields(args)); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", args, got, err)
		}
	}
	if _, err := command("", nil); err == nil {
		t.Error("nothing is run")
	}
}
