package proxy

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// door is where a front's clients come in.
type door struct {
	f     *Front
	loop  *loop
	raw   syscall.RawConn
	fd    int
	wait  time.Duration
	until time.Time // it is open again
	told  time.Time
}

// tellEvery is how often a door that is shut again and again says so.
const tellEvery = time.Minute

// open has the loop watch the listener.
func (d *door) open() {
	err := d.raw.Control(func(fd uintptr) {
		d.fd = int(fd)
		if err := d.loop.watch(d.fd, d, syscall.EPOLLIN); err != nil {
			d.pause(err)
		}
	})
	if err != nil && d.loop.sockets[d.fd] == watched(d) {
		d.loop.sockets[d.fd] = nil
	}
}

// pause is for when there are too many files, say: who comes waits in the kernel, longer each time.
func (d *door) pause(why error) {
	d.f.paused.Add(1)
	if now := time.Now(); now.Sub(d.told) >= tellEvery {
		d.told = now
		d.f.config.Log("clients wait at the door", "environment", d.f.config.Environment, "service", d.f.config.Service, "error", why.Error())
	}
	d.wait = min(max(2*d.wait, 5*time.Millisecond), time.Second)
	d.until = time.Now().Add(d.wait)
	d.loop.unwatch(d.fd)
	d.loop.doors = append(d.loop.doors, d)
}

func (d *door) broken() {}

// acceptMost are how many clients come in before the loop sees to the others; of those that still wait it is told again.
const acceptMost = 64

// ready accepts the clients that wait.
func (d *door) ready(uint32) {
	_ = d.raw.Control(func(fd uintptr) { // not when it was closed meanwhile: its number may be another's
		for range acceptMost {
			client, from, err := syscall.Accept4(int(fd), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return
			case errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EINTR):
				continue
			case err != nil:
				d.pause(os.NewSyscallError("accept4", err))
				return
			}
			d.wait = 0
			_ = syscall.SetsockoptInt(client, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
			l := d.f.loops[turns.Add(1)%uint64(len(d.f.loops))]
			if l == d.loop {
				l.enter(d.f, client, from)
			} else if !l.post(func() { l.enter(d.f, client, from) }) {
				_ = syscall.Close(client)
			}
		}
	})
}

// shut is for a listener that is closed.
func (d *door) shut() {
	if d.fd < len(d.loop.sockets) && d.loop.sockets[d.fd] == watched(d) {
		d.loop.sockets[d.fd] = nil
	}
	d.loop.doors = slices.DeleteFunc(d.loop.doors, func(other *door) bool { return other == d })
}

func (l *loop) address(from syscall.Sockaddr) string {
	switch a := from.(type) {
	case *syscall.SockaddrInet4:
		return net.IP(a.Addr[:]).String()
	case *syscall.SockaddrInet6:
		return (&net.IPAddr{IP: a.Addr[:], Zone: l.zone(a.ZoneId)}).String()
	}
	return ""
}

const (
	zonesMost = 64
	zonesFor  = time.Minute // an interface may be given another name
)

// zone is the name of a network interface, which to ask the kernel for takes longer than a request.
func (l *loop) zone(index uint32) string {
	if index == 0 {
		return ""
	}
	now := time.Now()
	if l.zones == nil || len(l.zones) >= zonesMost || now.Sub(l.zoned) >= zonesFor {
		l.zones, l.zoned = map[uint32]string{}, now
	}
	name, known := l.zones[index]
	if !known {
		if zone, err := net.InterfaceByIndex(int(index)); err == nil {
			name = zone.Name
		}
		l.zones[index] = name
	}
	return name
}
