package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vault-mcp/secret"
)

// VerifyOptions say with what a trail is verified, and what may be missing.
type VerifyOptions struct {
	Key []byte // secret.KeySize bytes

	// Partial accepts what archiving leaves behind: files that are gone at the
	// beginning of a chain, and, where there is no head file, at its end, and whole
	// chains. What is there must still be whole and belong together.
	Partial bool
}

// Report is what Verify found.
type Report struct {
	OK     bool          `json:"ok"` // every chain is
	Chains []ChainReport `json:"chains"`
}

// ChainReport is what Verify found in one chain.
type ChainReport struct {
	Path       string          `json:"path"`
	OK         bool            `json:"ok"`         // there is no problem
	Writing    bool            `json:"writing"`    // a running process is writing it
	Files      int             `json:"files"`      // numbered ones and the current one
	Records    uint64          `json:"records"`    // that are good
	Kinds      map[Kind]uint64 `json:"kinds"`      // records by kind
	First      time.Time       `json:"first"`      // time of the first record
	Last       time.Time       `json:"last"`       // and of the last one
	Refused    uint64          `json:"refused"`    // records that could not be written, or not in time: their calls were refused
	Unanswered uint64          `json:"unanswered"` // attempts without an outcome
	Notes      []Finding       `json:"notes"`      // worth knowing, no tampering
	MoreNotes  uint64          `json:"more_notes"` // not listed
	Problems   []Finding       `json:"problems"`   // why the chain is not as it was written
	More       uint64          `json:"more"`       // problems that are not listed
	chain      string          // its random name
	gone       []gone          // chains that it names and that were not found
}

// Finding is one thing that was found at one place.
type Finding struct {
	File string `json:"file"`
	Line int    `json:"line,omitzero"`
	What string `json:"what"`
}

func (f Finding) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.What
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)
}

// maxFindings bounds the lists of a report.
const maxFindings = 200

// Verify checks the chain to which a file belongs, or all chains in a folder,
// in bounded memory. A chain that is being written is checked as far as it had
// got. In a folder, chains are missed that others name. The error says that nothing could be checked; what is wrong with a chain
// stands in the report.
func Verify(path string, opt VerifyOptions) (Report, error) {
	k, err := derive(opt.Key)
	if err != nil {
		return Report{}, err
	}
	chains, err := findChains(path)
	if err != nil {
		return Report{}, err
	}
	var here map[string]bool // nil: it is not for us to say what is there
	info, err := os.Stat(path)
	folder := err == nil && info.IsDir()
	if folder {
		here = make(map[string]bool, len(chains))
		for _, c := range chains {
			here[filepath.Base(c.path)] = true
		}
	}
	report := Report{OK: true}
	names := map[string]string{} // a chain's random name to its path
	for _, c := range chains {
		r := verifyChain(c, k, here, opt.Partial)
		if other, twice := names[r.chain]; twice && r.chain != "" {
			r.problem(Finding{File: c.path, What: "a copy of the chain in " + other})
		}
		names[r.chain] = c.path
		report.Chains = append(report.Chains, r)
	}
	if folder {
		report.reportGone(path, opt.Partial)
	}
	for i := range report.Chains {
		report.OK = report.OK && report.Chains[i].OK
	}
	return report, nil
}

// verifyChain checks a chain. While a writer takes torn bytes off or starts,
// the files can look wrong for a moment, so a chain with a writer is looked at
// again before it is called altered.
func verifyChain(c chainFiles, k keys, here map[string]bool, partial bool) ChainReport {
	for again := 2; ; again-- {
		checker := newChecker(c, k, partial)
		checker.here = here
		r := checker.run()
		if r.OK || !r.Writing || again == 0 {
			return r
		}
		if fresh, err := findChains(c.path); err == nil {
			c = fresh[0]
		}
	}
}

func (r *ChainReport) problem(f Finding) {
	r.OK = false
	if len(r.Problems) == maxFindings {
		r.More++
		return
	}
	r.Problems = append(r.Problems, f)
}

// missing reports something that is not there, which archiving explains if it
// was said to have happened.
func (r *ChainReport) missing(f Finding, partial bool) {
	if partial {
		r.note(f)
		return
	}
	f.What += " (archived files are accepted when that is asked for)"
	r.problem(f)
}

func (r *ChainReport) note(f Finding) {
	if len(r.Notes) == maxFindings {
		r.MoreNotes++
		return
	}
	r.Notes = append(r.Notes, f)
}

// headOf reads the head file of a chain and tells whether a process is writing
// the chain: that process holds the lock.
func headOf(path string, key *macer) (m mark, writing bool, err error) {
	f, err := openFile(headPath(path))
	if err != nil {
		return m, false, err
	}
	defer func() { _ = f.Close() }()
	free, err := secret.TryLock(f, true) // the writer has the one lock
	if err != nil {
		return m, false, fmt.Errorf("its lock cannot be read: %w", err)
	}
	m, err = readMark(f, key)
	return m, !free, err
}

// foreign tells by which other key a line claims to have been written.
func foreign(text []byte, k keys) (fingerprint string, ok bool) {
	r, err := Parse(text)
	if err != nil || r.Kind != Opened || r.Key == k.fingerprint || len(r.Key) != len(k.fingerprint) {
		return "", false
	}
	return r.Key, strings.Trim(r.Key, "0123456789abcdef") == ""
}

var errWrongKey = errors.New("wrong key")
