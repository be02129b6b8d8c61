package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vault-mcp/secret"
)

// chainFiles are a chain and the numbers of its earlier files, in order.
type chainFiles struct {
	path  string
	parts []uint64
}

// chainOf takes off what the names of a chain's files have at the end.
func chainOf(name string) string {
	for _, end := range []string{".head", ".next"} {
		if chain, ok := strings.CutSuffix(name, end); ok {
			return chain
		}
	}
	chain, _, _ := partOf(name)
	return chain
}

// findChains lists the chain to which a file belongs, or all chains in a
// folder, by name. A chain is listed even if only some of its files are left.
func findChains(path string) ([]chainFiles, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	dir, only := path, ""
	info, err := os.Stat(path)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("audit: %w", err)
	case err != nil || !info.IsDir():
		only = chainOf(path)
		dir = filepath.Dir(only)
	}
	found := map[string][]uint64{}
	err = eachName(dir, func(name string) {
		name = filepath.Join(dir, name)
		chain, part, numbered := partOf(name)
		if !numbered {
			chain = chainOf(name)
		}
		known := numbered || strings.HasSuffix(name, ".head") || strings.HasSuffix(name, ".jsonl")
		if only == chain || only == "" && known {
			found[chain] = append(found[chain], part)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("audit: there is no trail in %s: %w", path, os.ErrNotExist)
	}
	chains := make([]chainFiles, 0, len(found))
	for chain, parts := range found {
		slices.Sort(parts)
		chains = append(chains, chainFiles{chain, slices.DeleteFunc(parts, func(p uint64) bool { return p == 0 })})
	}
	slices.SortFunc(chains, func(a, b chainFiles) int { return strings.Compare(a.path, b.path) })
	return chains, nil
}

// eachName calls f with the name of everything in a folder but folders.
func eachName(dir string, f func(name string)) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if !e.IsDir() {
				f(e.Name())
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// openPart opens file number part of a chain for reading, whatever its name is
// at this moment: the writer may be rotating.
func openPart(path string, part uint64) (*os.File, error) {
	number := partPath(path, part)
	for range 25 {
		f, err := openFile(number)
		if !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
		f, err = openFile(path)
		rotated, lookErr := exists(number)
		switch {
		case rotated || lookErr != nil:
			if f != nil {
				_ = f.Close()
			}
			if lookErr != nil {
				return nil, lookErr
			}
			continue // path has become another file in between
		case !errors.Is(err, os.ErrNotExist):
			return f, err
		}
		time.Sleep(2 * time.Millisecond) // perhaps between the two renames
	}
	// A rotation that was cut off between the two renames.
	if before, err := exists(partPath(path, part-1)); part == 1 || err != nil || !before {
		return nil, errors.Join(err, os.ErrNotExist)
	}
	return openFile(nextPath(path))
}

// openFile opens a regular file for reading.
func openFile(path string) (*os.File, error) {
	f, err := secret.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
