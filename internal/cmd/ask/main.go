// Command ask fetches a page over HTTP and exits with 0 when the answer is 200, for the health check of an image that has no
// shell. It stands there under the name of wget, which the official image has, and takes the arguments of that: the last one is
// the address, and options are nothing to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const patience = 5 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	err := ask(ctx, os.Args[1:], os.Stdout)
	cancel()
	if err != nil {
		fmt.Fprintf(os.Stderr, "ask: %v\n", err)
		os.Exit(1)
	}
}

// ask writes what the last argument answers; another status than 200 is an error.
func ask(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || strings.HasPrefix(args[len(args)-1], "-") {
		return errors.New("the last argument is no address")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, args[len(args)-1], http.NoBody) //nolint:gosec // to ask what it is told is what it is for
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request) //nolint:gosec // as above
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(out, io.LimitReader(answer.Body, 4<<10)); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer is %s", answer.Status)
	}
	return nil
}
