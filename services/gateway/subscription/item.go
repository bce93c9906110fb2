package subscription

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

// prefixCE marks an attribute's header, on the bus as over HTTP.
const prefixCE = "ce-"

// item is a fact as it stands on the stream. All subscriptions share it, and none changes it. Attributes are taken as
// they are, so that a fact of a later version than this program is delivered all the same.
type item struct {
	sequence   uint64
	project    string
	lane       string // facts of one lane are delivered in order
	subject    string // on the bus
	attributes map[string]string
	stored     nats.Header // as it came
	body       []byte

	binaryOnce sync.Once
	binary     []byte

	structuredOnce sync.Once
	structured     []byte
	structuredErr  error

	dataOnce sync.Once
	data     any
	dataErr  error

	variablesOnce sync.Once
	celVariables  map[string]any
}

// newItem takes a message of the stream, with the time at which that stored it.
func newItem(sequence uint64, stored time.Time, subject string, h nats.Header, body []byte) *item {
	i := &item{sequence: sequence, subject: subject, stored: h, body: body, attributes: make(map[string]string, len(h)+3)}
	for name, values := range h {
		lower := strings.ToLower(name)
		if len(values) == 0 {
			continue
		}
		if attribute, ok := strings.CutPrefix(lower, prefixCE); ok && isAttribute(attribute) {
			i.attributes[attribute] = unescape(values[0])
		} else if lower == "content-type" {
			i.attributes["datacontenttype"] = values[0]
		}
	}
	i.attributes["kind"] = events.KindName(events.Stated)
	i.attributes["sequence"] = strconv.FormatUint(sequence, 10)
	if !stored.IsZero() {
		i.attributes["recordedtime"] = stored.UTC().Format(time.RFC3339Nano)
	}
	if tokens := strings.SplitN(subject, ".", 3); len(tokens) == 3 {
		i.project = tokens[1]
	}
	a := i.attributes
	i.lane = strings.Join([]string{i.project, a["phase"], a["aggregate"], a["key"]}, "\x00")
	return i
}

// size is about what the item takes in memory.
func (i *item) size() int { return len(i.body) + 2048 }

func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// binaryMode is the fact in the binary content mode: attributes as headers, the body as it stands on the stream.
func (i *item) binaryMode() (head, body []byte) {
	i.binaryOnce.Do(func() {
		h := make(http.Header, len(i.attributes)+1)
		for name, values := range i.stored {
			lower := strings.ToLower(name)
			if attribute, ok := strings.CutPrefix(lower, prefixCE); (ok && isAttribute(attribute) || lower == "content-type") && len(values) > 0 {
				h.Set(name, values[0]) // escaped as HTTP has it
			}
		}
		h.Set("Ce-Kind", i.attributes["kind"])
		h.Set("Ce-Sequence", i.attributes["sequence"])
		if recorded, ok := i.attributes["recordedtime"]; ok {
			h.Set("Ce-Recordedtime", recorded)
		}
		i.binary = lines(h)
	})
	return i.binary, i.body
}

// structuredMode is the fact as one JSON object.
func (i *item) structuredMode() ([]byte, error) {
	i.structuredOnce.Do(func() {
		if !json.Valid(i.body) {
			i.structuredErr = errNoData
			return
		}
		head, err := json.Marshal(i.attributes)
		if err != nil {
			i.structuredErr = err
			return
		}
		var b bytes.Buffer
		b.Write(head[:len(head)-1])
		b.WriteString(`,"data":`)
		b.Write(i.body)
		b.WriteByte('}')
		i.structured = b.Bytes()
	})
	return i.structured, i.structuredErr
}

// decoded is the body as CEL sees it: numbers are doubles, as in JSON.
func (i *item) decoded() (any, error) {
	i.dataOnce.Do(func() {
		if err := json.Unmarshal(i.body, &i.data); err != nil {
			i.dataErr = fmt.Errorf("%w: %w", errNoData, err)
		}
	})
	return i.data, i.dataErr
}

// variables are the attributes as CEL sees them.
func (i *item) variables() map[string]any {
	i.variablesOnce.Do(func() {
		v := make(map[string]any, len(textVariables)+len(numberVariables)+len(timeVariables))
		for _, name := range textVariables {
			v[name] = i.attributes[name]
		}
		for _, name := range numberVariables {
			n, _ := strconv.ParseInt(i.attributes[name], 10, 64) // 0 where there is none
			v[name] = n
		}
		for _, name := range timeVariables {
			t, err := time.Parse(time.RFC3339Nano, i.attributes[name])
			if err != nil {
				t = time.Unix(0, 0).UTC()
			}
			v[name] = t
		}
		i.celVariables = v
	})
	return i.celVariables
}
