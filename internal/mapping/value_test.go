package mapping_test

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// Parts that are shared make a billion of some hundred bytes.
func TestSharedPartsAreBounded(t *testing.T) {
	ten := "[" + strings.Repeat("x,", 9) + "x]"
	m := builds
	m.Fields = map[string]string{"pipelineName": "data.job", "outcome": `"success"`, "errors": "dyn([1]" + strings.Repeat(".map(x,"+ten+")", 9) + ")"}
	_, _, err := compiled(t, m).Claim(t.Context(), structured(t, build))
	if err == nil || !strings.Contains(err.Error(), "fields.errors: it makes more than") {
		t.Errorf("nine times ten: %v", err)
	}
	m = builds
	m.When = "dyn([1]" + strings.Repeat(".map(x,"+ten+")", 9) + ")"
	if _, _, err := compiled(t, m).Claim(t.Context(), structured(t, build)); err == nil {
		t.Error("a condition that makes a list takes an event")
	}
	m = builds
	m.Subject = "dyn([1]" + strings.Repeat(".map(x,"+ten+")", 9) + ")"
	if _, _, err := compiled(t, m).Claim(t.Context(), structured(t, build)); err == nil || !strings.Contains(err.Error(), "has to make text, not list") {
		t.Errorf("a subject that is a list: %v", err)
	}
}

func TestNumbersStayAsTheyCame(t *testing.T) {
	for data, want := range map[string]string{
		`12345678`: "12345678", `9007199254740993`: "9007199254740993", `-9007199254740993`: "-9007199254740993",
		`18446744073709551615`: "18446744073709551615", `1.5`: "1.5", `0`: "0",
	} {
		m := events.Mapping{When: "data.id >= -1e300 && data.id != 0.25 && data.id < 1e300", Type: "pipelinerun.finished", Subject: "string(data.id)", Fields: map[string]string{"outcome": `"success"`}}
		text := `{"specversion":"1.0","id":"b-1","source":"/acme","type":"com.acme.build.done","data":{"id":` + data + `}}`
		e, _, err := compiled(t, m).Claim(t.Context(), structured(t, text))
		if err != nil || e.SubjectID != want {
			t.Errorf("%s: subject %q (%v)", data, e.SubjectID, err)
		}
	}
	m := builds
	m.When = "data.run + 1 == 8 && data.run == 7.0 && data.run < 7.5 && double(data.run) * 1.5 > 10"
	if _, _, err := compiled(t, m).Claim(t.Context(), structured(t, build)); err != nil {
		t.Errorf("arithmetic: %v", err)
	}
}
