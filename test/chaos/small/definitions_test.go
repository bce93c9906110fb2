package small_test

import (
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/test/chaos/small"
)

// Each effect of each service has a small form, or the proof could not be played.
func TestDefinitions(t *testing.T) {
	for _, name := range small.Services {
		if name == "feedback" { // opens the users' keys on the bus; it has no effects that could miss one
			continue
		}
		if _, err := small.Definitions(t.Context(), name, service.Host{}, small.Options{Data: t.TempDir()}); err != nil {
			t.Error(err)
		}
	}
}
