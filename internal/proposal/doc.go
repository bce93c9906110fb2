// Package proposal reads the pull and merge requests of forges, and makes of them what is claimed of a change. A webhook brings one, the API
// lists many; both are read here, so that they say the same of the same.
package proposal
