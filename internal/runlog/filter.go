package runlog

import (
	"bytes"
	"io"
)

// longestLine is how much of one line is looked through as one.
const longestLine = 64 << 10

// Filter passes on what is asked for of a log.
type Filter struct {
	out  io.Writer
	step string
	text []byte

	begun map[string][]byte // lines that have no end yet, by step
}

// NewFilter passes on what one step printed (empty: all), and of that the lines that contain a text (empty: all), as they are. The
// colours of terminals in between do not hide a text. Lines of several steps begin with the step's name where a text is looked for.
func NewFilter(out io.Writer, step, text string) *Filter {
	return &Filter{out: out, step: step, text: []byte(text), begun: map[string][]byte{}}
}

// Print takes a piece of the log.
func (f *Filter) Print(step string, p []byte) error {
	if f.step != "" && step != f.step && step != "" {
		return nil
	}
	if len(f.text) == 0 {
		if f.step != "" && step == "" && !bytes.HasPrefix(p, ours) {
			return nil
		}
		_, err := f.out.Write(p)
		return err
	}
	if f.step != "" && step == "" {
		return nil
	}
	// Most of a log is not looked for: only its lines that begin in one piece and end in another are copied.
	if begun := f.begun[step]; len(begun) > 0 {
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 && len(begun)+len(p) < longestLine {
			f.begun[step] = append(begun, p...)
			return nil
		}
		if end == 0 {
			end = len(p)
		}
		if err := f.lines(step, append(begun, p[:end]...)); err != nil {
			return err
		}
		f.begun[step], p = begun[:0], p[end:]
	}
	whole := bytes.LastIndexByte(p, '\n') + 1
	if len(p)-whole >= longestLine {
		whole = len(p)
	}
	f.begun[step] = append(f.begun[step], p[whole:]...)
	return f.lines(step, p[:whole])
}

// ours is how a [notice] begins.
var ours = []byte("\n*** lemnis: ")

// Close looks at lines that were not ended.
func (f *Filter) Close() error {
	for step, begun := range f.begun {
		if err := f.lines(step, begun); err != nil {
			return err
		}
	}
	return nil
}

// lines looks through lines that are whole.
func (f *Filter) lines(step string, p []byte) error {
	coloured := bytes.IndexByte(p, '\x1b') >= 0
	for len(p) > 0 {
		from := 0
		if !coloured {
			at := bytes.Index(p, f.text)
			if at < 0 {
				return nil
			}
			from = bytes.LastIndexByte(p[:at], '\n') + 1
		}
		p = p[from:]
		line := p
		if end := bytes.IndexByte(p, '\n'); end >= 0 {
			line = p[:end]
		}
		p = p[min(len(line)+1, len(p)):]
		if coloured && !bytes.Contains(plain(line), f.text) {
			continue
		}
		if err := f.show(step, line); err != nil {
			return err
		}
	}
	return nil
}

func (f *Filter) show(step string, line []byte) error {
	out := make([]byte, 0, len(step)+len(line)+3)
	if f.step == "" && step != "" {
		out = append(append(out, step...), ": "...)
	}
	_, err := f.out.Write(append(append(out, line...), '\n'))
	return err
}

// plain is a line without the sequences that colour terminals.
func plain(line []byte) []byte {
	out := make([]byte, 0, len(line))
	for {
		at := bytes.Index(line, []byte("\x1b["))
		if at < 0 {
			return append(out, line...)
		}
		out, line = append(out, line[:at]...), line[at+2:]
		end := bytes.IndexFunc(line, func(r rune) bool { return r >= 0x40 && r <= 0x7e })
		if end < 0 {
			return out
		}
		line = line[end+1:]
	}
}
