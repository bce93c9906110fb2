// Package lap drives one full turn of the loop on a repository, from the outside: all that it does goes through the
// gateway's HTTP, as any person's or tool's doing would, and all that it waits for are events. The demo and the
// integration tests share it.
//
//	l := lap.New(api.New(url), subject, lap.Options{Tell: print})
//	result, err := l.Run(ctx)
//
// A lap survives restarts of the installation at the same address: what it sends it sends again under the same id, and
// what it follows it takes up where it was.
package lap
