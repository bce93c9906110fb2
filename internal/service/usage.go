package service

import (
	"fmt"
	"io"
)

// environmentHelp is what every program of an installation is configured by.
const environmentHelp = `%[1]s is configured by its environment, and takes no flags:

  LEMNIS_NATS_URL             the bus (nats://127.0.0.1:4222)
  LEMNIS_NATS_KEY_FILE        file with the seed of its key on the bus
  LEMNIS_REDIS_URL            store of folds; without it they are in the process, and folded anew at each start
  LEMNIS_REDIS_PASSWORD_FILE  file with the store's password
  LEMNIS_REPLICAS             copies of each stream (1)
  LEMNIS_HTTP                 address of health and metrics, the gateway's of all that it serves
  LEMNIS_DATA                 work folder (lemnis in the user's cache folder)
  LEMNIS_LOG                  debug, info, warn or error (info)

docs/operate.md lists what single services have beside these. %[1]s healthcheck asks the running one whether it is ready.
`

// Usage answers a program's arguments: help, or that they are not understood. Not done: the program goes on; healthcheck is
// for [WantsHealthcheck].
func Usage(name string, args []string, out, complaints io.Writer) (code int, done bool) {
	switch {
	case len(args) < 2 || WantsHealthcheck(args):
		return 0, false
	case len(args) == 2 && (args[1] == "--help" || args[1] == "-h" || args[1] == "help"):
		fmt.Fprintf(out, environmentHelp, name)
		return 0, true
	}
	fmt.Fprintf(complaints, "%s: %q is not understood: it takes healthcheck or --help, and is configured by its environment\n", name, args[1])
	return 2, true
}
