package service

import (
	"flag"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "rapid.checks" })
	if !set {
		n := os.Getenv("LEMNIS_HISTORIES") // for each of the lanes of the proof
		if n == "" {
			n = "8"
		}
		if err := flag.Set("rapid.checks", n); err != nil {
			panic(err)
		}
	}
	quietFor = time.Second
	goleak.VerifyTestMain(m)
}
