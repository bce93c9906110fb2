// Package check holds the tests of the files under deploy/k8s, deploy/compose and deploy/observe. They are in a module of their own, so that
// the libraries of Kubernetes and Prometheus that judge them are in no program of Lemnis; the module's root is deploy, since go test runs
// again what has read a file of its own module, and else takes a result that it has kept.
package check
