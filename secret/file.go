package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// MakeFolder makes a folder that only we can enter (mode 0700), with those above
// it that are missing, unless it is there. What was made lasts through a power
// failure: a file that was forced to the disk is lost if its folder's name is.
func MakeFolder(path string) error {
	above := []string{} // folders that get a new name in them
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		_, err := os.Stat(dir)
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break // MkdirAll says what is wrong, if anything is
		}
		above = append(above, filepath.Dir(dir))
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, dir := range above {
		if err := SyncFolder(dir); err != nil {
			return err
		}
	}
	return nil
}

// Private refuses what is not a regular file that nobody else can read or write.
func Private(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	return private(info)
}

// ReadPrivate reads a file of at most that many bytes that nobody else can read
// or write. The error says what is wrong with it, not which file it is.
func ReadPrivate(path string, most int64) ([]byte, fs.FileInfo, error) {
	return readIf(path, most, Private)
}

// ReadUnforged reads a regular file of at most that many bytes that not everybody
// can write, such as one of public keys. The error says what is wrong with it, not
// which file it is.
func ReadUnforged(path string, most int64) ([]byte, fs.FileInfo, error) {
	return readIf(path, most, func(info fs.FileInfo) error {
		if !info.Mode().IsRegular() {
			return errors.New("it is not a regular file")
		}
		return unforged(info)
	})
}

func readIf(path string, most int64, check func(fs.FileInfo) error) ([]byte, fs.FileInfo, error) {
	f, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err == nil {
		err = check(info)
	}
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("it has over %d bytes", most)
	}
	return data, info, err
}

// Lock takes the one lock of a file, and says whether it got it: it waits so long
// for whoever holds it. Meanwhile it calls held, unless that is nil, with the time
// that it has waited, and gives up with the error that held returns.
func Lock(f *os.File, wait time.Duration, held func(waited time.Duration) error) (bool, error) {
	start, pause := time.Now(), time.Millisecond
	for {
		if got, err := TryLock(f, false); got || err != nil {
			return got, err
		}
		waited := time.Since(start)
		if waited >= wait {
			return false, nil
		}
		if held != nil {
			if err := held(waited); err != nil {
				return false, err
			}
		}
		time.Sleep(min(pause, wait-waited))
		pause = min(2*pause, 50*time.Millisecond)
	}
}
