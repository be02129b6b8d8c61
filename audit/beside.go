package audit

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// beside names the other chains in the folder of a chain, the last maxBeside by
// name, which where processes make the names is by time. They stand in the record
// of a start, so that whoever removes a chain must remove all that began after it.
// What is told by is the head file: that is what every chain of ours has, and no
// other program's file.
func beside(path string) ([]string, error) {
	own, names := filepath.Base(path), []string{}
	last := func() {
		slices.SortFunc(names, func(a, b string) int { return cmp.Compare(b, a) })
		names = names[:min(len(names), maxBeside)]
	}
	err := eachName(filepath.Dir(path), func(name string) {
		name, is := strings.CutSuffix(name, ".head")
		if !is || name == own || len(name) > maxName || !plain(name) {
			return
		}
		if names = append(names, name); len(names) >= 4*maxBeside {
			last()
		}
	})
	last()
	return names, err
}

// plain reports whether a name stands in a record as it is.
func plain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// gone is a chain that an opening record names and that is not in the folder.
type gone struct {
	name string
	at   Finding // the record
}

// maxGone bounds how many of them are remembered of a chain.
const maxGone = 1000

// lookBeside takes note of the chains that an opening record names and that were
// not found.
func (c *checker) lookBeside(r *Record) {
	for _, name := range r.Chains {
		told := slices.ContainsFunc(c.rep.gone, func(g gone) bool { return g.name == name })
		if c.here[name] || told || len(c.rep.gone) >= maxGone {
			continue
		}
		c.rep.gone = append(c.rep.gone, gone{name, Finding{File: c.file, Line: c.line}})
	}
}

// reportGone puts the chains that are gone from a folder into the report, each
// once. Some may be there by now: a process may have begun after the folder was
// listed.
func (r *Report) reportGone(dir string, partial bool) {
	told := map[string]bool{}
	for i := range r.Chains {
		c := &r.Chains[i]
		for _, g := range c.gone {
			if told[g.name] {
				continue
			}
			told[g.name] = true
			if _, err := findChains(filepath.Join(dir, g.name)); !errors.Is(err, os.ErrNotExist) {
				continue
			}
			g.at.What = fmt.Sprintf("the chain %s was in the folder when this one was opened here, and is gone", g.name)
			c.missing(g.at, partial)
		}
	}
}
