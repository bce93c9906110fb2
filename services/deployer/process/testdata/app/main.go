// Command app is a small service for the tests: its behaviour is told by flags.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

var eaten [][]byte

func main() {
	stubborn := flag.Bool("stubborn", false, "ignore SIGTERM")
	child := flag.Bool("child", false, "start a child that ignores SIGTERM, in the same group")
	escape := flag.Bool("escape", false, "start a child in a session of its own")
	sleeper := flag.Bool("sleeper", false, "be such a child")
	exclusive := flag.Bool("exclusive", false, "listen without SO_REUSEADDR")
	second := flag.Bool("second", false, "listen on a second port, on all addresses")
	sick := flag.Bool("sick", false, "answer 500")
	fail := flag.Bool("fail", false, "exit at once")
	flag.Parse()
	if *fail {
		fmt.Println("no configuration")
		os.Exit(3)
	}
	if *stubborn || *sleeper {
		signal.Ignore(syscall.SIGTERM)
	}
	if *sleeper {
		select {}
	}
	if *child || *escape {
		cmd := exec.Command("/proc/self/exe", "-sleeper")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: *escape}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
	}
	config := net.ListenConfig{}
	if *exclusive {
		config.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) })
		}
	}
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if *second {
		if _, err := net.Listen("tcp", ":0"); err != nil { //nolint:gosec // that is what the flag asks for
			panic(err)
		}
	}
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if *sick {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	http.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	http.HandleFunc("/eat", func(http.ResponseWriter, *http.Request) {
		for {
			mib := make([]byte, 1<<20)
			for i := range mib {
				mib[i] = 1
			}
			eaten = append(eaten, mib)
			time.Sleep(2 * time.Millisecond)
		}
	})
	http.HandleFunc("/share", func(http.ResponseWriter, *http.Request) {
		for {
			mib, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON)
			if err != nil {
				panic(err)
			}
			for i := range mib {
				mib[i] = 1
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	http.HandleFunc("/fork", func(http.ResponseWriter, *http.Request) {
		for range 8 {
			if err := exec.Command("/proc/self/exe", "-sleeper").Start(); err != nil {
				panic(err)
			}
		}
	})
	http.HandleFunc("/talk", func(http.ResponseWriter, *http.Request) { fmt.Println(strings.Repeat("x", 1000)) })
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second}
	panic(server.Serve(listener))
}
