module github.com/lemnis/lemnis/pkg/events

go 1.26
