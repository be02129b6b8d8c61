package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"vault-mcp/fault"
)

// Trail is one chain of records that this process writes. It is safe for use
// by any number of goroutines. Close ends it.
type Trail struct {
	path   string
	opt    Options
	keys   keys
	values *hasher
	head   *headFile

	queue    queue         // what the writer has to do
	spent    sync.Pool     // of *pending
	patience time.Duration // how long callers wait
	taken    atomic.Int64  // records that are in the queue, or in the writer's or the keeper's hand
	late     atomic.Uint64 // records that were refused because of the time, not in refused yet
	writing  watch         // the writer's
	keeping  watch         // the keeper's

	mu        sync.Mutex // guards what follows; held during a write and a rotation
	f         *os.File
	info      os.FileInfo // f's identity
	chain     string      // the chain's random name
	part      uint64      // f's number in the chain
	at        position    // the last record written
	size      int64       // where it ends in f
	since     int         // callers' records since the last checkpoint
	turnAt    int64       // size at which to rotate
	mac       *macer
	enc       encoder
	next      position // at, when what stands in enc.buf is written
	ends      []ending // of the lines in enc.buf
	batch     []*pending
	torn      int64                // bytes behind size that are no record and could not be taken off
	cut       uint64               // bytes of partial records taken off since the last good write
	refused   uint64               // records that could not be written since then
	pinned    bool                 // f cannot be shortened (an append-only attribute)
	broken    error                // why the last write failed
	moved     error                // the file is no longer ours
	syncErr   error                // why the last flush failed
	unsound   bool                 // an fsync of f failed, so f is not written any more
	renewAt   time.Time            // no new file in its place before that
	renewWait time.Duration        // how long that was put off
	waiting   int                  // callers whose record waits for its fsync
	unforced  []*pending           // their records, but for those in the keeper's hand
	force     func(*os.File) error // fsync, but for a test that makes it fail
	folder    func(string) error   // likewise, of a folder

	synced uint64 // the keeper's: the record up to which everything is on the disk

	due           chan struct{}   // tells the keeper of records in unforced
	checks        chan chan error // asks the keeper for a Check
	stop          chan struct{}   // ends the keeper
	written, kept chan struct{}   // the writer has ended, the keeper has
	closing       sync.Once
	closeErr      error
}

// ending is a line in the buffer: where it ends, and the place in the chain
// that it makes.
type ending struct {
	off int
	at  position
}

// fence ends a torn line that cannot be taken off, so that it is no record even
// if only its line end was missing.
const fence = "!\n"

// Path is the file that the trail writes.
func (t *Trail) Path() string { return t.path }

// HMAC is the keyed hash of a value, as it stands in records.
func (t *Trail) HMAC(b []byte) string { return t.values.of(b) }

// begin starts a batch of lines that are written together. If something went
// wrong before, the first of them says so.
func (t *Trail) begin() {
	t.enc.buf, t.ends, t.next = t.enc.buf[:0], t.ends[:0], t.at
	if t.torn > 0 && !t.pinned {
		t.shorten(t.torn)
	}
	torn := t.torn
	if torn > 0 {
		t.enc.buf = append(t.enc.buf, fence...)
		torn += int64(len(fence))
	}
	if torn > 0 || t.cut > 0 || t.refused > 0 {
		t.add(&Record{Kind: Recovery, Cut: t.cut, Torn: uint64(torn), Refused: t.refused})
	}
}

// add puts a record at the end of the batch.
func (t *Trail) add(r *Record) {
	r.Seq, r.Time = t.next.seq+1, t.opt.Now()
	from := len(t.enc.buf)
	t.enc.record(r)
	t.enc.buf = append(t.enc.buf, `,"prev":"`...)
	t.enc.buf = append(t.enc.buf, t.next.mac[:]...)
	t.enc.buf = append(t.enc.buf, '"')
	var mac []byte
	t.enc.buf, mac = t.mac.seal(t.enc.buf, from)
	t.enc.buf = append(t.enc.buf, '\n')
	t.next.seq = r.Seq
	copy(t.next.mac[:], mac)
	t.ends = append(t.ends, ending{len(t.enc.buf), t.next})
}

// commit writes the batch with one write(2). If that fails, the file is put
// back to where it was, or, if it cannot be, what is torn is remembered, to be
// fenced off by the next batch.
func (t *Trail) commit() error {
	n, err := t.f.Write(t.enc.buf)
	if err == nil {
		t.at = t.next
		t.size += t.torn + int64(n)
		t.torn, t.cut, t.refused, t.broken = 0, 0, 0, nil
		return nil
	}
	t.broken = err
	clean, end := t.torn == 0, t.size+t.torn
	t.torn += int64(n)
	if n == 0 || clean && !t.pinned && t.shorten(int64(n)) {
		return err
	}
	// Lines that got into the file whole are part of the chain, and the first
	// of them has told what there was to tell.
	for _, e := range t.ends {
		if e.off <= n {
			t.at, t.size, t.torn = e.at, end+int64(e.off), int64(n-e.off)
			t.cut, t.refused = 0, 0
		}
	}
	return err
}

// shorten takes n torn bytes off the end of the file.
func (t *Trail) shorten(n int64) bool {
	if err := t.f.Truncate(t.size); err != nil {
		t.pinned = t.pinned || errors.Is(err, os.ErrPermission)
		return false
	}
	t.torn = 0
	t.cut += uint64(n)
	return true
}

// place checks that the trail's name still leads to the trail's file, and that
// nobody else has written to it.
func (t *Trail) place() error {
	t.moved = func() error {
		for _, f := range []struct {
			path string
			info os.FileInfo
		}{{t.path, t.info}, {headPath(t.path), t.head.info}} {
			info, err := os.Lstat(f.path)
			if err != nil {
				return fmt.Errorf("audit: the trail's file is gone: %w", err)
			}
			if !os.SameFile(info, f.info) {
				return fmt.Errorf("audit: %s was replaced", f.path)
			}
		}
		info, err := t.f.Stat()
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		if info.Size() != t.size+t.torn {
			return fmt.Errorf("audit: %s was changed by somebody else: it has %d bytes, not %d",
				t.path, info.Size(), t.size+t.torn)
		}
		return nil
	}()
	return t.moved
}

// mark is what the head file should say now.
func (t *Trail) mark() mark {
	return mark{Chain: t.chain, Part: t.part, Seq: t.at.seq, Size: t.size, Head: string(t.at.mac[:])}
}

// opening is the record at the start of a file, or of a process. Only the
// first one in a file names the file before it: so nobody can cut off what
// stands before a later one and call the rest a whole file.
func (t *Trail) opening(part uint64, first bool) *Record {
	r := &Record{Kind: Opened, Chain: t.chain, Key: t.keys.fingerprint, Part: part}
	if part > 1 && first {
		r.File = filepath.Base(partPath(t.path, part-1))
	}
	return r
}

// unavailable makes the error that a caller may see.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Unavailable, "the audit trail cannot be written", err).With("code", "audit_unavailable")
}
