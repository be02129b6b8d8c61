//go:build race

package server_test

// raceDetector is on: it takes more memory than what is measured.
const raceDetector = true
