// Package testreport reads what test programs say of their cases: JUnit XML, go test -json and TAP, told by their content.
package testreport
