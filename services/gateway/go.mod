module github.com/lemnis/lemnis/services/gateway

go 1.26.0

require (
	github.com/google/go-containerregistry v0.22.1
	github.com/lemnis/lemnis/internal v0.0.0
	github.com/lemnis/lemnis/pkg/events v0.0.0
	go.uber.org/zap v1.28.0
)

require (
	github.com/docker/cli v29.7.2+incompatible // indirect
	github.com/docker/docker-credential-helpers v0.9.3 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/sirupsen/logrus v1.9.4 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/lemnis/lemnis/internal => ../../internal
	github.com/lemnis/lemnis/pkg/events => ../../pkg/events
)
