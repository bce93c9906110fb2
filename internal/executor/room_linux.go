package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// newRoot is where the new root is mounted: every Linux has this folder, and of what lies there steps see nothing.
const newRoot = "/sys"

// furnish makes a new root with what every step sees, and returns what of it is the machine's.
func furnish(k kind) ([]bind, error) {
	if err := syscall.Mount("lemnis", newRoot, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755,size=16m"); err != nil {
		return nil, fmt.Errorf("mount a root: %w", err)
	}
	for _, folder := range []string{"proc", "dev/shm", "etc", "home", "tmp", ".old"} {
		if err := os.MkdirAll(filepath.Join(newRoot, folder), 0o755); err != nil {
			return nil, err
		}
	}
	binds := fixed()
	if err := putAll(binds); err != nil {
		return nil, err
	}
	if err := devices(newRoot); err != nil {
		return nil, err
	}
	for name, text := range users(stepUser, stepUser) {
		if err := os.WriteFile(filepath.Join(newRoot, "etc", name), []byte(text), 0o644); err != nil { //nolint:gosec // everybody reads it, as in any system
			return nil, err
		}
	}
	if err := syscall.Mount("proc", filepath.Join(newRoot, "proc"), "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mount /proc: %w", err)
	}
	_ = syscall.Sethostname([]byte("step"))
	if !k.network {
		if err := loopback(); err != nil {
			return nil, err
		}
	}
	return binds, nil
}

func putAll(binds []bind) error {
	for _, b := range binds {
		if err := put(newRoot, b); err != nil {
			return fmt.Errorf("put %s into the root: %w", b.Target, err)
		}
	}
	return nil
}

// enter adds to the new root what one step sees, and goes into it; there is what it has already.
func enter(o order, there []bind) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := putAll(slices.DeleteFunc(o.Binds, func(b bind) bool { return slices.Contains(there, b) })); err != nil {
		return err
	}
	for _, l := range o.Layers {
		if err := lay(newRoot, l); err != nil {
			return fmt.Errorf("lay folders over one another at %s: %w", l.Target, err)
		}
	}
	if err := syscall.PivotRoot(newRoot, filepath.Join(newRoot, ".old")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Unmount("/.old", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	_ = os.Remove("/.old")
	// Newer kernels bound the pids of a namespace; unlike the limit of processes, this holds for root's too.
	_ = os.WriteFile("/proc/sys/kernel/pid_max", []byte(strconv.FormatUint(tasks(o.Limits)+301, 10)), 0)
	sysctl := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := syscall.Mount("/proc/sys", "/proc/sys", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /proc/sys: %w", err)
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/proc/sys", 0, &sysctl); err != nil {
		return fmt.Errorf("make /proc/sys read only: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make the root read only: %w", err)
	}
	return nil
}

// users are the files of /etc by which a script finds the name of its user.
func users(user, group int) map[string]string {
	return map[string]string{
		"passwd": fmt.Sprintf("root:x:0:0:root:/:/bin/sh\nstep:x:%d:%d:step:/home/step:/bin/sh\n", user, group),
		"group":  fmt.Sprintf("root:x:0:\nstep:x:%d:\n", group),
	}
}

// put binds one file or folder of the host.
func put(root string, b bind) error {
	target := filepath.Join(root, b.Target)
	if link, err := os.Readlink(b.Source); err == nil && !b.Write && !filepath.IsAbs(link) && filepath.Dir(b.Source) == "/" {
		return os.Symlink(link, target) // /bin to usr/bin
	}
	if b.Source == "" {
		switch info, err := os.Stat(target); {
		case err != nil:
			return nil //nolint:nilerr // what is not there needs no hiding
		case !info.IsDir():
			return syscall.Mount("/dev/null", target, "", syscall.MS_BIND, "")
		}
		return syscall.Mount("hidden", target, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755,size=1m")
	}
	info, err := os.Stat(b.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		var f *os.File
		if f, err = os.OpenFile(target, os.O_CREATE, 0o644); err == nil { //nolint:gosec // a place to mount upon
			err = f.Close()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syscall.Mount(b.Source, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	// Private: what the machine mounts below it meanwhile does not come here, with whatever rights.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if !b.Write {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	return unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &attr)
}

// lay mounts folders over one another. They are named by what holds them open: no name is too long, or has signs that mean something.
func lay(root string, l Layer) error {
	var held []int
	defer func() {
		for _, fd := range held {
			_ = unix.Close(fd)
		}
	}()
	hold := func(folder string) (string, error) {
		fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", &os.PathError{Op: "open", Path: folder, Err: err}
		}
		held = append(held, fd)
		return fmt.Sprintf("/proc/self/fd/%d", fd), nil
	}
	target := filepath.Join(root, l.Target)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	upper := filepath.Join(l.Upper, "upper")
	if len(l.Lower) == 0 {
		return syscall.Mount(upper, target, "", syscall.MS_BIND|syscall.MS_NOSUID, "")
	}
	var lower []string
	for _, folder := range l.Lower {
		at, err := hold(folder)
		if err != nil {
			return err
		}
		lower = append(lower, at)
	}
	over, err := hold(upper)
	if err != nil {
		return err
	}
	work, err := hold(filepath.Join(l.Upper, "work"))
	if err != nil {
		return err
	}
	// Volatile: nobody waits for the disk; what was written is of use only when the step ended well.
	options := "userxattr,volatile,lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + over + ",workdir=" + work
	return syscall.Mount("lemnis", target, "overlay", syscall.MS_NOSUID|syscall.MS_NODEV, options)
}

// devices are the few that a script needs.
func devices(root string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		target := filepath.Join(root, "dev", name)
		if err := os.WriteFile(target, nil, 0o600); err != nil {
			return err
		}
		if err := syscall.Mount("/dev/"+name, target, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /dev/%s: %w", name, err)
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(root, "dev", name)); err != nil {
			return err
		}
	}
	if err := syscall.Mount("shm", filepath.Join(root, "dev", "shm"), "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return nil
}

// loopback lets processes of one step reach one another.
func loopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("the loopback network: %w", err)
	}
	defer func() { _ = unix.Close(s) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("the loopback network: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("the loopback network: %w", err)
	}
	return nil
}
