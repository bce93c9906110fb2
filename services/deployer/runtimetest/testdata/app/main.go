// Command app is a small service for the tests, of the standard library only.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	bad := flag.Bool("bad", false, "tell a version, set no protection, listen on one more port")
	flag.Parse()
	if *bad {
		if _, err := net.Listen("tcp", ":0"); err != nil {
			panic(err)
		}
	}
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if *bad {
			w.Header().Set("Server", "app/1.2")
		} else {
			w.Header().Set("X-Content-Type-Options", "nosniff")
		}
		fmt.Fprintln(w, "ok")
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
