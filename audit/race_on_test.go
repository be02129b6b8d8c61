//go:build race

package audit_test

// thin is how many cases of the exhaustive tests there are for each one that is
// run: under the race detector they are slow, and have nothing for it to find.
const thin = 7
