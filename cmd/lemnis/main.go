// Command lemnis is the command line and, as `lemnis up`, all services in one process.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/lemnis/lemnis/cmd/lemnis/command"
	"github.com/lemnis/lemnis/services/deployer/keeper"
)

func main() {
	if code, done := keeper.Main(os.Args); done {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := command.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
