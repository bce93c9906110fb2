module github.com/lemnis/lemnis/cmd/lemnis

go 1.26

require (
	github.com/lemnis/lemnis/pkg/events v0.0.0
	github.com/lemnis/lemnis/internal v0.0.0
	github.com/lemnis/lemnis/services/planner v0.0.0
	github.com/lemnis/lemnis/services/builder v0.0.0
	github.com/lemnis/lemnis/services/deployer v0.0.0
	github.com/lemnis/lemnis/services/monitor v0.0.0
	github.com/lemnis/lemnis/services/feedback v0.0.0
	github.com/lemnis/lemnis/services/gateway v0.0.0
)

replace (
	github.com/lemnis/lemnis/pkg/events => ../../pkg/events
	github.com/lemnis/lemnis/internal => ../../internal
	github.com/lemnis/lemnis/services/planner => ../../services/planner
	github.com/lemnis/lemnis/services/builder => ../../services/builder
	github.com/lemnis/lemnis/services/deployer => ../../services/deployer
	github.com/lemnis/lemnis/services/monitor => ../../services/monitor
	github.com/lemnis/lemnis/services/feedback => ../../services/feedback
	github.com/lemnis/lemnis/services/gateway => ../../services/gateway
)
