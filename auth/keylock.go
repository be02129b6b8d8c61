package auth

import (
	"errors"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// lockSuffix makes the name of a file's lock of the file's.
const lockSuffix = ".lock"

// acquire takes the lock of a file, waiting for whoever holds it, but not for
// ever.
func acquire(path string, wait time.Duration) (release func() error, err error) {
	file, err := openLock(path)
	if err != nil {
		return nil, err
	}
	got, err := secret.Lock(file, wait, nil)
	if err == nil && !got {
		err = fault.New(fault.Timeout, "another process holds it")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}
