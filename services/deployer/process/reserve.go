//go:build linux

package process

import (
	"fmt"
	"os"
	"syscall"
)

// reservation is a loopback port bound and not listened on.
type reservation struct {
	port int
	fd   int
}

func reserve() (*reservation, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	r := &reservation{fd: fd}
	var bound syscall.Sockaddr
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
			bound, err = syscall.Getsockname(fd)
		}
	}
	if err != nil {
		r.release()
		return nil, fmt.Errorf("reserve a port: %w", os.NewSyscallError("bind", err))
	}
	r.port = bound.(*syscall.SockaddrInet4).Port
	return r, nil
}

func (r *reservation) release() {
	if r.fd >= 0 {
		_ = syscall.Close(r.fd)
		r.fd = -1
	}
}
