package resident

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const size = 64 << 20

// Pages that a process has written count; those that it has only asked for, and those of files, do not.
func TestOf(t *testing.T) {
	if of := Of(1 << 30); of != 0 {
		t.Errorf("of no process: %d", of)
	}
	before := Of(os.Getpid())
	if before <= 0 {
		t.Fatalf("of this process: %d", before)
	}
	page, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(page) }()
	if grown := Of(os.Getpid()) - before; grown > size/2 {
		t.Errorf("%d more for pages that nobody has written", grown)
	}
	for i := 0; i < size; i += 4096 {
		page[i] = 1
	}
	if grown := Of(os.Getpid()) - before; grown < size/2 || grown > 2*size {
		t.Errorf("%d more for %d bytes that were written", grown, size)
	}
}

// What two processes share counts once where it decides, and is not looked for where it does not.
func TestTogether(t *testing.T) {
	file, err := os.CreateTemp("/dev/shm", "resident")
	if err != nil {
		t.Skip("SKIPPED: no /dev/shm here, so that what processes share was NOT tried: ", err)
	}
	defer func() { _ = file.Close() }()
	if err := errors.Join(os.Remove(file.Name()), file.Truncate(size)); err != nil {
		t.Fatal(err)
	}
	touch(t, file)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestShares$")
	child.Env, child.ExtraFiles = append(os.Environ(), "RESIDENT_SHARES=1"), []*os.File{file}
	stop, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop.Close(); _ = child.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "touched\n" {
		t.Fatalf("%q, %v", line, err)
	}
	of := map[int]int64{os.Getpid(): Of(os.Getpid()), child.Process.Pid: Of(child.Process.Pid)}
	sum := of[os.Getpid()] + of[child.Process.Pid]
	if sum < 2*size {
		t.Fatalf("%v, of which they share %d", of, size)
	}
	if got := Together(of, sum); got != sum {
		t.Errorf("together %d, not above %d", got, sum)
	}
	if got := Together(of, 1); got < size || got > sum-size/2 {
		t.Errorf("together %d, and one by one %d, of which they share %d", got, sum, size)
	}
	// Of a process that is gone what was last seen of it counts.
	of[1<<30] = 5 << 30
	if got := Together(of, 1); got < 5<<30 {
		t.Errorf("together %d with one that is gone", got)
	}
}

// TestShares is the other process of TestTogether.
func TestShares(t *testing.T) {
	if os.Getenv("RESIDENT_SHARES") == "" {
		return
	}
	touch(t, os.NewFile(3, "shared"))
	fmt.Println("touched")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the first one has seen enough
}

// touch writes all pages of a file that is mapped, for as long as the test takes.
func touch(t *testing.T, file *os.File) {
	t.Helper()
	pages, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(pages) })
	for i := 0; i < size; i += 4096 {
		pages[i] = 1
	}
}

// What several that have ended shared counts once too: a step that ends in order is not ended for more than it took.
func TestTogetherOfTheDead(t *testing.T) {
	if took := Together(map[int]int64{1 << 30: size, 1<<30 + 1: size - 1}, size); took != size {
		t.Errorf("%d bytes of two that have ended, with %d at the most", took, size)
	}
}
