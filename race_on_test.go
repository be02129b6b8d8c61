//go:build race

package main_test

// raceEnabled: the product is built with the race detector as well.
const raceEnabled = true
