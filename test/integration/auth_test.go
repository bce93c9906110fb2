package integration_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// The loop turns where everybody is asked who they are: what each service may do on the bus, and builder and deployer at
// the registry, is enough for all of it. One token speaks for the people of the lap, as without authentication.
func TestLapWithKeysAndTokens(t *testing.T) {
	token := rand.Text()
	stack, stop := uptest.Run(t, up.Options{Auth: true, Known: map[string]access.Identity{token: access.Everybody()}})
	defer stop()
	client := api.New(stack.URL(), api.Token(token))
	defer client.Close()
	began := time.Now()
	result, err := lap.New(client, shop(t), lap.Options{Patience: 3, Tell: func(step int, text string) {
		t.Logf("%5.1fs %2d %s", time.Since(began).Seconds(), step, text)
	}}).Run(t.Context())
	if err != nil {
		t.Fatalf("the lap did not close: %v", err)
	}
	eachFactOnce(t, result.Events)
}
