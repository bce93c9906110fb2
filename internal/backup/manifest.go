package backup

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// ManifestName is the file of an archive that says what belongs to it. It is written last.
const ManifestName = "manifest.json"

// format of archives that are written here.
const format = 1

// Manifest says what an archive holds.
type Manifest struct {
	Format   int       `json:"format"`
	Version  string    `json:"version"` // of the program that made it
	Server   string    `json:"server"`  // version of the bus
	Created  time.Time `json:"created"`
	Identity string    `json:"identity"` // of LIFECYCLE
	Sequence uint64    `json:"sequence"` // of the last event in it
	Streams  []Stream  `json:"streams"`
	// TimerFloors are, by consumer, the sequences up to which all timers were set before TIMERS was copied.
	TimerFloors map[string]uint64 `json:"timerFloors,omitempty"`
	Parts       []Part            `json:"parts"`
	Registry    bool              `json:"registry"` // whether the registry was copied
}

// Stream is a stream in an archive.
type Stream struct {
	Name     string          `json:"name"`
	Messages uint64          `json:"messages"`
	First    uint64          `json:"first"`
	Last     uint64          `json:"last"`
	Config   json.RawMessage `json:"config"`
	State    json.RawMessage `json:"state"`
}

// Part is a file of an archive.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

func streamPart(name string) string { return "streams/" + name + ".snapshot" }

func readManifest(r io.Reader) (Manifest, error) {
	var m Manifest
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return m, fmt.Errorf("%s can not be read: %w", ManifestName, err)
	}
	if m.Format != format {
		return m, fmt.Errorf("the archive has the format %d; this program reads %d", m.Format, format)
	}
	return m, nil
}
