//go:build !race

package audit_test

const thin = 1
