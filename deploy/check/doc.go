// Package check holds the tests of the files under deploy/k8s, deploy/compose and deploy/observe, in a module of its own, so that the
// libraries of Kubernetes and Prometheus that judge them are in no program of Lemnis.
package check
