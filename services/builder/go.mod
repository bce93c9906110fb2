module github.com/lemnis/lemnis/services/builder

go 1.26.0

require (
	github.com/lemnis/lemnis/internal v0.0.0
	github.com/lemnis/lemnis/pkg/events v0.0.0
)

require (
	github.com/google/go-containerregistry v0.22.1 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)

replace (
	github.com/lemnis/lemnis/internal => ../../internal
	github.com/lemnis/lemnis/pkg/events => ../../pkg/events
)
