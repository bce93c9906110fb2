// Package up runs a whole installation in one process: bus, store of folds, the services of the six phases and the gateway.
//
//	stack, err := up.New(ctx, up.Options{Data: dir, HTTP: "127.0.0.1:0"})
//	err = stack.Run(ctx)   // until ctx ends; then it drains
//
// The program, the demo and the tests all run this. One process at a time has a data folder (a lock says so), and since it is
// known to have replaced the one before it, it takes over that one's leases at once, also after a kill -9.
//
// What it does not do yet: authentication, and so it listens on loopback only; copies of the streams (one process, one disk).
package up
