// Package branch keeps what is said of branches: that they came to be, and that they are gone.
package branch
