//go:build !linux

package audit_test

func child(string, string) {}
