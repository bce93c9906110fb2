// Package coverage reads what tests have run: Go cover profiles, Cobertura's XML and LCOV, told by their content; of the
// whole and of the lines that a change touched.
package coverage
