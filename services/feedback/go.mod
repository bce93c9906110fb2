module github.com/lemnis/lemnis/services/feedback

go 1.26.0

require (
	github.com/lemnis/lemnis/internal v0.0.0
	github.com/lemnis/lemnis/pkg/events v0.0.0
)

require pgregory.net/rapid v1.3.0 // indirect

replace (
	github.com/lemnis/lemnis/internal => ../../internal
	github.com/lemnis/lemnis/pkg/events => ../../pkg/events
)
