package events

import (
	"crypto/sha1" //nolint:gosec // UUIDv5 is defined on SHA-1; nothing secret is hashed
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// factSpace is the UUIDv5 name space of facts.
var factSpace = [16]byte{0x6c, 0x65, 0x6d, 0x6e, 0x69, 0x73, 0x4c, 0x45, 0x9f, 0x1f, 0x0a, 0x37, 0x3c, 0x55, 0x21, 0x08}

// FactID is the id of the one fact that an aggregate may state for a cause: a UUIDv5 of the
// stream's identity, the cause's sequence, the kind of aggregate, its project and key, and the
// type. Nothing in it is chosen outside.
func FactID(stream string, cause uint64, aggregate, project, key string, t Type) string {
	h := sha1.New() //nolint:gosec // see factSpace
	var buf [160]byte
	b := append(buf[:0], factSpace[:]...)
	for _, s := range [...]string{stream, strconv.FormatUint(cause, 10), aggregate, project, key, string(t)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	_, _ = h.Write(b)
	var sum [20]byte
	return formatUUID(h.Sum(sum[:0]), 5)
}

func formatUUID(u []byte, version byte) string {
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], u[0:4])
	hex.Encode(out[9:13], u[4:6])
	hex.Encode(out[14:18], u[6:8])
	hex.Encode(out[19:23], u[8:10])
	hex.Encode(out[24:36], u[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// ClaimMessageID is the message id of a claim: length-prefixed principal, source and id, so that
// no outsider can produce another's.
func ClaimMessageID(principal, source, id string) string {
	b := make([]byte, 0, len(principal)+len(source)+len(id)+16)
	b = append(b, "c/"...)
	for _, s := range [...]string{principal, source, id} {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	return string(b)
}
