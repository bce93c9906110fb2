// Package repository keeps which of the project's configured repositories take part.
package repository
