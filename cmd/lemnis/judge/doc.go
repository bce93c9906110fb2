// Package judge judges recorded canaries offline: counts a tick by the sequential test that the deployer uses, raw samples of
// a metric by a comparison of level and spread.
package judge
