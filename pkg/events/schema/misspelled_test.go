package schema_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// A name that only encoding/json takes for a member is refused, alone or beside the right one; free keys may differ in case.
func TestCaseCounts(t *testing.T) {
	body, err := os.ReadFile("../testdata/approval.given.json")
	if err != nil {
		t.Fatal(err)
	}
	const right = `"environment": "prod"`
	for text, fine := range map[string]bool{
		right: true, right + `, "Environment": "evil"`: false, right + `, "ENVIRONMENT": "evil"`: false, `"environment": "prod", "Reaſon": "x"`: false,
	} {
		changed := bytes.Replace(body, []byte(right), []byte(text), 1)
		err := schema.Validate(changed)
		if fine != (err == nil) || err != nil && (!errors.Is(err, schema.ErrInvalid) || !strings.Contains(err.Error(), "case counts") && !strings.Contains(err.Error(), "additional")) {
			t.Errorf("%s: %v", text, err)
		}
		if schema.Certain(events.Type("dev.cdeventsx.lemnis-approval.given.0.1.0"), changed) != fine {
			t.Errorf("%s: certain is not %v", text, fine)
		}
	}
	free := bytes.Replace(body, []byte(`"why": "the same feature"`), []byte(`"why": "a", "Why": "b"`), 1)
	if bytes.Equal(free, body) || schema.Validate(free) != nil {
		t.Errorf("free keys: %v", schema.Validate(free))
	}
}
