// Command entrypoint starts the program of an image that has no shell, as the official images of NATS and Redis start
// theirs: arguments alone go to the program that $ENTRYPOINT names; a first argument that is a command is that command.
//
//	entrypoint -c /etc/nats/nats.conf         runs $ENTRYPOINT -c /etc/nats/nats.conf
//	entrypoint redis-server /etc/redis.conf   runs redis-server /etc/redis.conf
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func main() {
	argv, err := command(os.Getenv("ENTRYPOINT"), os.Args[1:])
	if err == nil {
		var path string
		if path, err = exec.LookPath(argv[0]); err == nil {
			err = syscall.Exec(path, argv, os.Environ()) //nolint:gosec // to run what it is told is what it is for
		}
	}
	fmt.Fprintf(os.Stderr, "entrypoint: %v\n", err)
	os.Exit(127)
}

// command is what is run for arguments.
func command(program string, args []string) ([]string, error) {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !strings.HasSuffix(args[0], ".conf") {
		return args, nil
	}
	if program == "" {
		return nil, errors.New("ENTRYPOINT names no program")
	}
	return append([]string{program}, args...), nil
}
