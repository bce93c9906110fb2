package fold

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// A snapshot is the magic, records, an end mark, and the CRC-32C of all that.
// A record is a type, when it expires (in ms since 1970, 0 for never), the key,
// the number of strings that follow, and these, each with its length before it.
const snapshotMagic = "LMNFOLD1"

const (
	endMark    = 'E'
	typeString = 's'
	typeHash   = 'h'
	typeSet    = 'u'
	typeSorted = 'z'
	typeList   = 'l'
	crcBytes   = 4
)

var (
	castagnoli      = crc32.MakeTable(crc32.Castagnoli)
	errSnapshotEnds = errors.New("it ends early")
)

// writeSnapshot writes the whole content of a database that nobody changes.
func writeSnapshot(f io.Writer, db *miniredis.RedisDB, now time.Time, logf func(string, ...any)) error {
	sum := crc32.New(castagnoli)
	file := bufio.NewWriterSize(f, 1<<18)
	w := snapshotWriter{bufio.NewWriterSize(io.MultiWriter(file, sum), 1<<16)}
	_, _ = w.WriteString(snapshotMagic)
	for _, key := range db.Keys() {
		kind, content, err := content(db, key)
		if err != nil {
			return fmt.Errorf("key %s: %w", key, err)
		}
		if kind == 0 {
			logf("fold: key %s of type %s is not kept in the snapshot", key, db.Type(key))
			continue
		}
		var expires int64
		if ttl := db.TTL(key); ttl > 0 {
			expires = now.Add(ttl).UnixMilli()
		}
		_ = w.WriteByte(kind)
		w.number(uint64(expires))
		w.text(key)
		w.number(uint64(len(content)))
		for _, s := range content {
			w.text(s)
		}
	}
	_ = w.WriteByte(endMark)
	// A buffered writer keeps its first error.
	if err := w.Flush(); err != nil {
		return err
	}
	_, _ = file.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return file.Flush()
}

func content(db *miniredis.RedisDB, key string) (kind byte, content []string, err error) {
	switch db.Type(key) {
	case "string":
		value, err := db.Get(key)
		return typeString, []string{value}, err
	case "hash":
		fields, err := db.HKeys(key)
		for _, field := range fields {
			content = append(content, field, db.HGet(key, field))
		}
		return typeHash, content, err
	case "set":
		content, err = db.Members(key)
		return typeSet, content, err
	case "list":
		content, err = db.List(key)
		return typeList, content, err
	case "zset":
		scores, err := db.SortedSet(key)
		for member, score := range scores {
			bits := binary.LittleEndian.AppendUint64(nil, math.Float64bits(score))
			content = append(content, member, string(bits))
		}
		return typeSorted, content, err
	}
	return 0, nil, nil
}

type snapshotWriter struct{ *bufio.Writer }

func (w snapshotWriter) number(n uint64) {
	var b [binary.MaxVarintLen64]byte
	_, _ = w.Write(b[:binary.PutUvarint(b[:], n)])
}

func (w snapshotWriter) text(s string) {
	w.number(uint64(len(s)))
	_, _ = w.WriteString(s)
}

// readSnapshot fills an empty store. It checks the sum before it sets a key.
func readSnapshot(path string, mini *miniredis.Miniredis) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	size, err := checkSum(f)
	if err != nil {
		return err
	}
	if _, err := f.Seek(int64(len(snapshotMagic)), io.SeekStart); err != nil {
		return err
	}
	r := snapshotReader{bufio.NewReaderSize(f, 1<<18), uint64(size)}
	db, now := mini.DB(0), time.Now()
	for {
		kind, err := r.ReadByte()
		if err != nil {
			return errSnapshotEnds
		}
		if kind == endMark {
			return nil
		}
		if err := r.record(db, kind, now); err != nil {
			return err
		}
	}
}

// checkSum returns the size of the file.
func checkSum(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	if size < int64(len(snapshotMagic)+1+crcBytes) {
		return 0, errSnapshotEnds
	}
	magic := make([]byte, len(snapshotMagic))
	if _, err := f.ReadAt(magic, 0); err != nil {
		return 0, err
	}
	if string(magic) != snapshotMagic {
		return 0, errors.New("it is not a snapshot of this version")
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, size-crcBytes)); err != nil {
		return 0, err
	}
	var want [crcBytes]byte
	if _, err := f.ReadAt(want[:], size-crcBytes); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint32(want[:]) != sum.Sum32() {
		return 0, errors.New("its check sum is wrong")
	}
	return size, nil
}

type snapshotReader struct {
	*bufio.Reader
	size uint64 // of the file, which no length in it may exceed
}

func (r snapshotReader) record(db *miniredis.RedisDB, kind byte, now time.Time) error {
	expires, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	key, err := r.text()
	if err != nil {
		return err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	if n > r.size {
		return errSnapshotEnds
	}
	content := make([]string, n)
	for i := range content {
		if content[i], err = r.text(); err != nil {
			return err
		}
	}
	ttl := time.UnixMilli(int64(expires)).Sub(now)
	if expires > 0 && ttl <= 0 {
		return nil
	}
	if err := restore(db, kind, key, content); err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	if expires > 0 {
		db.SetTTL(key, ttl)
	}
	return nil
}

func (r snapshotReader) text() (string, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return "", err
	}
	if n > r.size {
		return "", errSnapshotEnds
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

func restore(db *miniredis.RedisDB, kind byte, key string, content []string) (err error) {
	if kind == typeString && len(content) != 1 || (kind == typeHash || kind == typeSorted) && len(content)%2 != 0 {
		return errors.New("wrong number of parts")
	}
	switch kind {
	case typeString:
		return db.Set(key, content[0])
	case typeHash:
		db.HSet(key, content...)
	case typeSet:
		_, err = db.SetAdd(key, content...)
	case typeList:
		_, err = db.Push(key, content...)
	case typeSorted:
		for i := 0; i < len(content); i += 2 {
			if len(content[i+1]) != 8 {
				return errors.New("a score is not readable")
			}
			score := math.Float64frombits(binary.LittleEndian.Uint64([]byte(content[i+1])))
			if _, err := db.ZAdd(key, score, content[i]); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("unknown type %q", kind)
	}
	return err
}
