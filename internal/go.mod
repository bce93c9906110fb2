module github.com/lemnis/lemnis/internal

go 1.26

require (
	github.com/lemnis/lemnis/pkg/events v0.0.0
)

replace (
	github.com/lemnis/lemnis/pkg/events => ../pkg/events
)
