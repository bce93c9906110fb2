package secret_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/secret"
)

func TestRedact(t *testing.T) {
	for address, want := range map[string]string{
		"redis://127.0.0.1:6379/0":              "redis://127.0.0.1:6379/0",
		"redis://:secret@redis:6379/0":          "redis://:xxxxx@redis:6379/0",
		"nats://a:secret@one:4222,nats://two:1": "nats://a:xxxxx@one:4222,nats://two:1",
		"redis://:se/cret@redis:6379":           "xxxxx@redis:6379",
		"redis://:se@cret@redis:port":           "xxxxx@redis:port",
		"unix:///run/redis.sock":                "unix:///run/redis.sock",
		"":                                      "",
	} {
		if got := secret.Redact(address); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
	malformed := "redis://:se/cret@redis:6379"
	_, err := url.Parse(malformed) //nolint:staticcheck // that it is none is the point
	if err == nil {
		t.Fatal("it is a URL")
	}
	if text := secret.RedactError(fmt.Errorf("redis: %w", err)).Error(); strings.Contains(text, "se") && strings.Contains(text, "cret@") {
		t.Error(text)
	}
}
