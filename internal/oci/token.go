package oci

import (
	"fmt"
	"os"
	"strings"
)

// TokenFile gives the token in a file to the registry, as the password that its clients send; no file, no option.
func TokenFile(path string) ([]Option, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("token for the registry: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return nil, fmt.Errorf("token for the registry: %s is empty", path)
	}
	return []Option{BasicAuth("token", token)}, nil
}
