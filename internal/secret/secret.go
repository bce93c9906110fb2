// Package secret reads the secrets that configurations call "secret:<name>": files <folder>/<project>/<name>.
package secret

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const mostBytes = 64 << 10

// Read is a secret of a project without the white space around it. It reads within the project's folder only, wherever
// names and links lead. The error names the secret and not what is in it.
func Read(folder, project, name string) (string, error) {
	if folder == "" {
		return "", errors.New("there is no folder of secrets (LEMNIS_SECRETS_DIR)")
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return "", fmt.Errorf("open the folder of secrets: %w", err)
	}
	defer func() { _ = root.Close() }()
	own, err := root.OpenRoot(project)
	if err != nil {
		return "", fmt.Errorf("open the folder of secrets of %s: %w", project, err)
	}
	defer func() { _ = own.Close() }()
	file, err := own.Open(name)
	if err != nil {
		return "", fmt.Errorf("read the secret %q: %w", name, err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, mostBytes+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read the secret %q: %w", name, err)
	case len(text) > mostBytes:
		return "", fmt.Errorf("the secret %q has more than %d bytes", name, mostBytes)
	}
	return strings.TrimSpace(string(text)), nil
}
