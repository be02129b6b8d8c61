package secret

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
		if err := syncFolder(dir); err != nil {
			return err
		}
	}
	return nil
}
