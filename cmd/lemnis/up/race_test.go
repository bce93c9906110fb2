//go:build race

package up_test

const underRace = true
