package up

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/lemnis/lemnis/internal/project"
)

// check refuses what can be seen to be wrong before anything is started.
func (s *Stack) check() error {
	o := s.options
	if o.Data == "" {
		return fmt.Errorf("there is no data folder: name one with --data")
	}
	if !o.Auth {
		if err := loopback("--http", o.HTTP); err != nil {
			return err
		}
	}
	if o.NATS == "" && !o.Auth {
		if err := loopback("--nats-listen", o.NATSListen); err != nil {
			return err
		}
	}
	if o.Durability != "" && (o.Durability != "fsync" || o.NATS != "") {
		return fmt.Errorf("--durability %q: it may be fsync, and only with the embedded bus", o.Durability)
	}
	if o.Config == "" {
		return nil
	}
	text, err := os.ReadFile(o.Config)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	p, err := project.Parse(o.Config, text)
	if err != nil {
		return err
	}
	s.project = &p
	return nil
}

// apply claims the project file as anybody would, through the gateway.
func (s *Stack) apply(ctx context.Context) error {
	client := s.client()
	defer client.Close()
	revision, err := client.Apply(ctx, *s.project, 30*time.Second)
	if err != nil {
		return fmt.Errorf("--config %s: %w", s.options.Config, err)
	}
	s.options.Log.Sugar().Infow("project file applied", "project", s.project.Name, "revision", revision)
	return nil
}
