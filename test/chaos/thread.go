package chaos

import "runtime"

// lockThread binds the goroutine to its thread until it ends.
func lockThread() { runtime.LockOSThread() }
