package natsd

// Local is the principal of clients without credentials.
const Local = "local"

// Names of the two accounts, and of the subjects between them on which the
// guard listens in the services' account.
const (
	servicesAccount = "LEMNIS"
	localAccount    = "LOCAL"
	wallPrefix      = "_WALL"
)

// A gate is one way through the wall: what the client publishes to, and the
// subject in the services' account that it becomes.
type gate struct {
	outside, inside string
}

func gates(principal string) []gate {
	wall := wallPrefix + "." + principal
	return []gate{
		{outside: "submit." + principal + ".>", inside: "submit." + principal + ".>"},
		{outside: "$JS.API.STREAM.INFO." + Lifecycle, inside: wall + ".stream"},
		{outside: "$JS.API.STREAM.MSG.GET." + Lifecycle, inside: wall + ".last"},
		{outside: "$JS.API.CONSUMER.CREATE." + Lifecycle + ".>", inside: wall + ".create.>"},
		{outside: "$JS.API.CONSUMER.INFO." + Lifecycle + ".*", inside: wall + ".info.*"},
		{outside: "$JS.API.CONSUMER.DELETE." + Lifecycle + ".*", inside: wall + ".delete.*"},
		// Its presence keeps the server from importing its own "$JS.API.>" into
		// the account, which would answer each request first, with an error.
		{outside: "$JS.API.INFO", inside: wall + ".account"},
	}
}

func nextSubject(consumer string) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + Lifecycle + "." + consumer
}

func ackSubject(consumer string) string { return "$JS.ACK." + Lifecycle + "." + consumer + ".>" }
