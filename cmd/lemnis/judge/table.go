package judge

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

const (
	canaryName   = "canary"
	baselineName = "baseline"
)

// table reads CSV with a header, and says of what is wrong where it is: file:line:column.
type table struct {
	file   string
	csv    *csv.Reader
	header []string
	at     map[string]int // column by name
	row    []string
	line   int
}

func openTable(file string, in io.Reader, wanted []string) (*table, error) {
	t := &table{file: file, csv: csv.NewReader(in), at: map[string]int{}}
	t.csv.FieldsPerRecord, t.csv.ReuseRecord, t.csv.TrimLeadingSpace = -1, true, true
	form := strings.Join(wanted, ",")
	if err := t.next(); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is empty: it has to begin with the line %s", file, form)
	} else if err != nil {
		return nil, err
	}
	for i, name := range t.row {
		name = strings.TrimSpace(name)
		if i == 0 {
			name = strings.TrimPrefix(name, "\ufeff")
		}
		if _, twice := t.at[name]; twice {
			return nil, t.wrong(i, "the column %q is there twice", name)
		}
		t.header, t.at[name] = append(t.header, name), i
	}
	for _, name := range wanted {
		if _, ok := t.at[name]; !ok {
			return nil, t.wrong(0, "the header has no column %q; it has to begin with %s", name, form)
		}
	}
	return t, nil
}

// next reads a row; io.EOF at the end.
func (t *table) next() error {
	row, err := t.csv.Read()
	var broken *csv.ParseError
	if errors.As(err, &broken) {
		return fmt.Errorf("%s:%d:%d: %w", t.file, broken.Line, broken.Column, broken.Err)
	}
	if err != nil {
		return err
	}
	t.row = row
	t.line, _ = t.csv.FieldPos(0)
	if t.header != nil && len(row) != len(t.header) {
		return t.wrong(min(len(row), len(t.header))-1, "%d columns, and the header has %d", len(row), len(t.header))
	}
	return nil
}

func (t *table) wrong(column int, format string, args ...any) error {
	line, at := t.line, 1
	if column >= 0 && column < len(t.row) {
		line, at = t.csv.FieldPos(column)
	}
	return fmt.Errorf("%s:%d:%d: %s", t.file, line, at, fmt.Sprintf(format, args...))
}

func (t *table) text(column string) string { return strings.TrimSpace(t.row[t.at[column]]) }

// version says whether a row is the canary's.
func (t *table) version() (canary bool, err error) {
	switch v := t.text("version"); v {
	case canaryName, baselineName:
		return v == canaryName, nil
	default:
		return false, t.wrong(t.at["version"], "version is %q; it may be canary or baseline", v)
	}
}

// number is a finite one.
func (t *table) number(column string) (float64, error) {
	text := t.text(column)
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil && !math.IsInf(v, 0):
		return 0, t.wrong(t.at[column], "%s is %q, which is no number", column, text)
	case math.IsNaN(v) || math.IsInf(v, 0):
		return 0, t.wrong(t.at[column], "%s is %s, which is no finite number; leave out what was not measured", column, text)
	}
	return v, nil
}

// mostCount is the largest count that is exact everywhere.
const mostCount = 1 << 53

// count is a whole number, 0 or more; also where it is written 12.0 or 1e3.
func (t *table) count(column string) (int64, error) {
	v, err := t.number(column)
	switch {
	case err != nil:
		return 0, err
	case v < 0:
		return 0, t.wrong(t.at[column], "%s is %s; it may not be negative", column, t.text(column))
	case v != math.Trunc(v):
		return 0, t.wrong(t.at[column], "%s is %s, which is no whole number", column, t.text(column))
	case v > mostCount:
		return 0, t.wrong(t.at[column], "%s is %s; it may be 2^53 at most", column, t.text(column))
	}
	return int64(v), nil
}
