package events_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

func compacted(f *testing.F) (bodies [][]byte) {
	for _, body := range allGoldens(f) {
		bodies = append(bodies, compact(f, body))
	}
	return bodies
}

// same compares events; of foreign custom data only what it says counts.
func same(t *testing.T, want, got events.Event) {
	t.Helper()
	if (want.Custom == nil) != (got.Custom == nil) || want.Custom != nil && !sameJSON(t, want.Custom, got.Custom) {
		t.Fatalf("custom data %s became %s", want.Custom, got.Custom)
	}
	want.Custom, got.Custom = nil, nil
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("want %+v\ngot  %+v", want, got)
	}
}

// again asks of an event that was decoded that it can be written and read again, as it is.
func again(t *testing.T, e events.Event) {
	t.Helper()
	m, err := events.Encode(e)
	if err != nil {
		t.Fatalf("%+v was decoded but cannot be encoded: %v", e, err)
	}
	if !json.Valid(m.Data) {
		t.Fatalf("encoded to %s", m.Data)
	}
	back, err := events.Decode(m.Header, m.Data)
	if err != nil {
		t.Fatalf("%v in %s", err, m.Data)
	}
	back.Kind, back.Sequence = e.Kind, e.Sequence
	same(t, e, back)
	structured, err := events.EncodeStructured(e)
	if err != nil {
		t.Fatal(err)
	}
	if back, _, err = events.DecodeStructured(structured); err != nil {
		t.Fatalf("%v in %s", err, structured)
	}
	same(t, e, back)
}

func FuzzDecodeBody(f *testing.F) {
	for _, body := range compacted(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := events.DecodeBody(body)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("malformed JSON was taken: %s", body)
		}
		out, err := e.AppendBody(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := events.DecodeBody(out)
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		same(t, e, back)
	})
}

func FuzzDecodeBinary(f *testing.F) {
	for _, body := range compacted(f) {
		e, err := events.DecodeBody(body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(e.Type), e.ID, e.Source, "shop", string(e.Phase), "a%2Fb", "7", "2026-03-02T00:00:00Z", body)
	}
	f.Fuzz(func(t *testing.T, typ, id, source, project, phase, key, number, deadline string, body []byte) {
		h := nats.Header{
			"ce-specversion": {"1.0"}, "ce-type": {typ}, "ce-id": {id}, "ce-source": {source}, "ce-project": {project}, "ce-phase": {phase},
			"ce-key": {key}, "ce-attempt": {number}, "ce-deadline": {deadline}, "ce-principal": {project}, "ce-chainid": {key},
		}
		if e, err := events.Decode(h, body); err == nil {
			again(t, e)
		}
	})
}

func FuzzDecodeStructured(f *testing.F) {
	for _, body := range compacted(f) {
		e, err := events.DecodeBody(body)
		if err != nil {
			f.Fatal(err)
		}
		e.Kind, e.Sequence, e.Attempt = events.Claim, 7, 2
		data, err := events.EncodeStructured(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, body, err := events.DecodeStructured(data)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("malformed JSON was taken: %s", body)
		}
		again(t, e)
	})
}

func FuzzDecodeHTTP(f *testing.F) {
	for _, body := range compacted(f) {
		e, err := events.DecodeBody(body)
		if err != nil {
			f.Fatal(err)
		}
		data, err := events.EncodeStructured(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("application/json", string(e.Type), e.ID, `"qu\"oted%20"`, body)
		f.Add("application/cloudevents+json", "", "", "", data)
		f.Add("application/cloudevents-batch+json; charset=utf-8", "", "", "", bytes.Join([][]byte{[]byte("["), data, []byte(","), data, []byte("]")}, nil))
	}
	f.Fuzz(func(t *testing.T, contentType, typ, id, key string, body []byte) {
		h := http.Header{}
		for name, value := range map[string]string{
			"Content-Type": contentType, "Ce-Specversion": "1.0", "Ce-Type": typ, "Ce-Id": id, "Ce-Source": "/s", "Ce-Project": "shop", "Ce-Key": key,
		} {
			h.Set(name, value)
		}
		decoded, err := events.DecodeHTTP(h, body)
		if err != nil {
			return
		}
		for _, one := range decoded {
			if one.Err != nil {
				continue
			}
			again(t, one.Event)
			header, out, err := events.EncodeHTTP(one.Event)
			if err != nil {
				t.Fatal(err)
			}
			back, err := events.DecodeHTTP(header, out)
			if err != nil || len(back) != 1 || back[0].Err != nil {
				t.Fatalf("%v, %+v", err, back)
			}
			back[0].Event.Kind, back[0].Event.Sequence = one.Event.Kind, one.Event.Sequence
			same(t, one.Event, back[0].Event)
		}
	})
}

func FuzzUnescapeKey(f *testing.F) {
	for _, key := range keys {
		f.Add(events.EscapeKey(key))
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if back, err := events.UnescapeKey(events.EscapeKey(token)); err != nil || back != token {
			t.Fatalf("%q came back as %q, %v", token, back, err)
		}
		key, err := events.UnescapeKey(token)
		if err != nil {
			return
		}
		if back, err := events.UnescapeKey(events.EscapeKey(key)); err != nil || back != key {
			t.Fatalf("%q came back as %q, %v", key, back, err)
		}
		if p := events.Partition(key); p < 0 || p >= events.Partitions {
			t.Fatalf("partition %d", p)
		}
	})
}
