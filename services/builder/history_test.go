package builder_test

import (
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/services/builder"
)

func TestHistories(t *testing.T) {
	define := func() []service.Definition { return builder.New(builder.Options{Data: t.TempDir()}) }
	rulestest.Histories(t, shop(1), define, map[string]rulestest.Play{"lap": func(_ rulestest.T, s *rulestest.Stream) {
		w := newWorld(shop(1))
		lap(w)
		for _, e := range w.log {
			e.Source, e.Time = "/"+string(e.Phase), e.Stored
			s.Events = append(s.Events, e)
		}
	}})
}
