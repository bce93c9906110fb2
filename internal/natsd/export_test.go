package natsd

// Granted are the subjects that the key of a service, or of a principal who reads these projects, may publish and subscribe to.
func Granted(name string, reads ...string) (publish, subscribe []string) {
	if _, service := servicePhases[name]; service {
		p := permissionsOf(name)
		return p.publish, p.subscribe
	}
	return outsider{name: name, reads: reads}.granted()
}
