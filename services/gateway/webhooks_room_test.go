package gateway

import "testing"

// A project that fills its part of the room leaves the others theirs.
func TestRoomOfOneProject(t *testing.T) {
	room := bodyRoom{each: map[string]int64{}}
	if !room.take("loud", mostWebhooksOfOne) || room.take("loud", 1) {
		t.Error("one project's part is not what it should be")
	}
	if !room.take("quiet", 1) {
		t.Error("the other project has no room")
	}
	room.give("loud", mostWebhooksOfOne)
	if !room.take("loud", 1) {
		t.Error("what was given back is not free")
	}
}
