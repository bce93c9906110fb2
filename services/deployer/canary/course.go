package canary

import "slices"

// maxPoints bounds the course: when it is full every second point is left out.
const maxPoints = 24

// course is how the evidence got where it is, at evenly spaced ticks. It holds what evidence is made of and not the evidence
// itself, since a tolerance is known to a policy only.
type course struct {
	Every  int64   `json:"every,omitempty"`
	Points []point `json:"points,omitempty"`
}

type point struct {
	Tick   int64   `json:"tick"`
	Errors float64 `json:"errors"`
	Guards float64 `json:"guards,omitempty"` // sum over the guards
	Bounds float64 `json:"bounds,omitempty"` // of the coin over latency bounds
	S      float64 `json:"s,omitempty"`
	I      float64 `json:"i,omitempty"`
}

// Point is the evidence after a tick.
type Point struct {
	Tick     int64   `json:"tick"` // from 1
	Evidence float64 `json:"evidence"`
}

func (c course) add(s State) course {
	every := max(c.Every, 1)
	if s.Ticks%every != 0 {
		return c
	}
	points := make([]point, 0, maxPoints)
	if len(c.Points) < maxPoints {
		points = append(points, c.Points...)
	} else {
		every *= 2
		for _, p := range c.Points {
			if p.Tick%every == 0 {
				points = append(points, p)
			}
		}
		if s.Ticks%every != 0 {
			return course{every, points}
		}
	}
	p := point{Tick: s.Ticks, Errors: s.errorEvidence(), S: s.Latency.S, I: s.Latency.I, Bounds: s.Latency.coins()}
	for _, g := range s.Guards {
		p.Guards += g.evidence()
	}
	return course{every, append(points, p)}
}

// Evidence is how the evidence for a rollback grew, at evenly spaced ticks and now.
func (s State) Evidence(p Policy) []Point {
	p = p.withDefaults()
	var out []Point
	for _, q := range s.Course.Points {
		parts := 1 + float64(len(s.Guards))
		sum := q.Errors + q.Guards
		if s.timed(p) {
			l := latency{S: q.S, I: q.I}
			parts, sum = parts+1, sum+l.mixed(q.Bounds, p.Tolerance)
		}
		out = append(out, Point{q.Tick, sum / parts})
	}
	now := Point{s.Ticks, s.rollbackEvidence(p)}
	if i := slices.IndexFunc(out, func(q Point) bool { return q.Tick == now.Tick }); i >= 0 {
		out = out[:i]
	}
	return append(out, now)
}
