package judge

import (
	"errors"
	"io"

	"github.com/lemnis/lemnis/services/deployer/canary/sample"
)

// mostSampled bounds the memory that a file can take.
const mostSampled = 5_000_000

// Comparison of raw samples. What a program looks for comes last.
type Comparison struct {
	Compared sample.Verdict `json:"compared"`
	Reason   string         `json:"reason"`
	Verdict  sample.Outcome `json:"verdict"`
	// Tick is always 1: samples are looked at once.
	Tick int64 `json:"tick"`
	// Evidence is 1/p.
	Evidence float64 `json:"evidence"`
	// Exposed counts the canary's samples.
	Exposed int64 `json:"exposed"`
}

// Samples judges raw samples, version,value.
func Samples(file string, in io.Reader, p sample.Policy) (Comparison, error) {
	t, err := openTable(file, in, []string{"version", "value"})
	if err != nil {
		return Comparison{}, err
	}
	for i, name := range t.header {
		if name != "version" && name != "value" {
			return Comparison{}, t.wrong(i, "unknown column %q; raw samples have version,value", name)
		}
	}
	var values [2][]float64
	for {
		if err := t.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Comparison{}, err
		}
		isCanary, err := t.version()
		if err != nil {
			return Comparison{}, err
		}
		v, err := t.number("value")
		if err != nil {
			return Comparison{}, err
		}
		which := 0
		if isCanary {
			which = 1
		}
		values[which] = append(values[which], v)
		if len(values[0])+len(values[1]) > mostSampled {
			return Comparison{}, t.wrong(0, "more than %d samples", mostSampled)
		}
	}
	v := sample.Compare(values[1], values[0], p)
	return Comparison{Compared: v, Reason: v.Reason, Verdict: v.Outcome, Tick: 1, Evidence: 1 / max(v.P, smallestP), Exposed: int64(len(values[1]))}, nil
}

// smallestP keeps the evidence a number that JSON can hold.
const smallestP = 1e-300
