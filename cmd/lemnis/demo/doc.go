// Package demo turns the whole loop once, on the shop that it creates or on a repository of the user's, and shows it.
//
// It starts an installation of its own (package up) on a temporary folder and free ports, and then is an outsider like any
// other: the lap (package lap) goes through HTTP alone. One thing only reaches into the process: with a repository of the
// user's and no bad version of it, the deployer's drill makes the second change fail, and the demo says so.
package demo
