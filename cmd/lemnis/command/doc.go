// Package command is the command line: one file a command. Whatever needs an installation reaches it by HTTP, at --server
// or $LEMNIS_SERVER.
package command
