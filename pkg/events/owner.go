package events

// OwnerElected is a result: a process has taken over the decisions of a phase. Every fact of
// the owners before it stands earlier on the stream, so a reader that has met it has met them.
type OwnerElected struct {
	Owner string `json:"owner"`
	Floor uint64 `json:"floor"` // highest sequence below which everything was handled
}

func init() {
	enter[OwnerElected]("dev.cdeventsx.lemnis-owner.elected.0.1.0", "", internalOnly)
}
