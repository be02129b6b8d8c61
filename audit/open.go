package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"vault-mcp/secret"
)

// lockPatience is how long Open waits for the lock of a chain: a Verify takes
// it for a moment, a writer for as long as it lives.
const lockPatience = 500 * time.Millisecond

// Open starts a trail: a new chain, or the continuation of the one in
// Options.Path. Folders are made with mode 0700, files with 0600; a file that
// is not a regular one, or is open to others, is refused. A partial last line
// (a crash in the middle of a write) is fenced off and recorded; a rotation that
// was cut off is finished. A chain whose end does not verify is refused and
// left as it is: it is evidence, and the operator moves it away.
func Open(opt Options) (*Trail, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	k, err := derive(opt.Key)
	if err != nil {
		return nil, err
	}
	opt.Key = nil
	dir := filepath.Dir(opt.Path)
	if err := secret.MakeFolder(dir); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	info, err := os.Stat(dir)
	if err == nil {
		err = guarded(dir, info)
	}
	if err != nil {
		return nil, err
	}
	head, err := openHeadFile(opt.Path, k)
	if err != nil {
		return nil, err
	}
	t := &Trail{
		path: opt.Path, opt: opt, keys: k, values: newHasher(k.value), head: head,
		mac: newMacer(k.chain), turnAt: opt.MaxBytes, force: (*os.File).Sync, folder: secret.SyncFolder,
		queue: queue{more: make(chan struct{}, 1)}, patience: patience, writing: newWatch(), keeping: newWatch(),
		due: make(chan struct{}, 1), checks: make(chan chan error),
		stop: make(chan struct{}), written: make(chan struct{}), kept: make(chan struct{}),
	}
	if err := t.resume(); err != nil {
		if t.f != nil {
			_ = t.f.Close()
		}
		_ = head.f.Close()
		return nil, err
	}
	go t.write()
	go t.keep()
	return t, nil
}

// openHeadFile opens and locks the head file of a chain.
func openHeadFile(path string, k keys) (*headFile, error) {
	name := headPath(path)
	f, err := openHead(name)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	info, err := regular(f)
	if err == nil {
		err = lock(path, f)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &headFile{f: f, info: info, key: newMacer(k.head)}, nil
}

// lock takes the lock of a chain, which is that of its head file.
func lock(path string, f *os.File) error {
	got, err := secret.Lock(f, lockPatience, nil)
	if err != nil {
		return fmt.Errorf("audit: locking %s: %w", f.Name(), err)
	}
	if !got {
		return fmt.Errorf("audit: %s is being written by another process; "+
			"give every process a file of its own (or none, to let it choose)", path)
	}
	return nil
}

// regular refuses what is not a file of ours alone.
func regular(f *os.File) (os.FileInfo, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if err := secret.Private(info); err != nil {
		return nil, fmt.Errorf("audit: %s: %w", f.Name(), err)
	}
	return info, nil
}

// resume finds the place where the chain ended, makes the files whole, and
// writes the record of this start.
func (t *Trail) resume() error {
	m, err := readMark(t.head.f, t.head.key)
	if errors.Is(err, errNoHead) {
		m, err = t.found()
	}
	if err != nil {
		return t.refuse(t.path, err)
	}
	t.chain, t.part, t.at = m.Chain, m.Part, m.position()
	off := m.Size
	for ; ; t.part, off = t.part+1, 0 {
		name := partPath(t.path, t.part)
		if there, err := exists(name); err != nil || !there {
			if err != nil {
				return fmt.Errorf("audit: %w", err)
			}
			break
		}
		if _, torn, err := t.follow(name, off); err != nil || torn > 0 {
			return t.refuse(name, errors.Join(err, tornError(torn)))
		}
	}
	if err := t.settle(m); err != nil {
		return err
	}
	if t.size, t.torn, err = t.follow(t.path, off); err != nil {
		return t.refuse(t.path, err)
	}
	// What a crash left of a record stays, fenced off: it may be evidence. Bytes
	// that this process itself tears are taken off when it can.
	t.pinned = true
	t.begin()
	t.pinned = false
	first := t.opening(t.part, t.size == 0)
	if first.Chains, err = beside(t.path); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	t.add(first)
	if err := t.commit(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if err := errors.Join(t.force(t.f), t.folder(filepath.Dir(t.path))); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	t.synced = t.at.seq
	return t.head.write(t.mark())
}

// found begins a chain: nothing may be there but an empty file.
func (t *Trail) found() (mark, error) {
	if info, err := os.Lstat(t.path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		return mark{}, errors.New("there are records, but no head file")
	}
	if there, err := exists(partPath(t.path, 1)); there || err != nil {
		return mark{}, errors.Join(err, errors.New("there are earlier files, but no head file"))
	}
	p := start()
	m := mark{Chain: secret.RandomHex(16), Part: 1, Head: string(p.mac[:])}
	// The head must outlive a power failure that the first records outlive:
	// records without a head are not continued.
	return m, errors.Join(t.head.write(m), t.head.f.Sync())
}

// settle puts the file that is to be written in its place, and opens it. It is
// missing in a new chain, and when a rotation was cut off after the old file
// had been renamed.
func (t *Trail) settle(m mark) error {
	flags := 0
	there, err := exists(t.path)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	waiting, err := exists(nextPath(t.path))
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	switch {
	case !there && m.Seq > 0 && (t.part == m.Part || !waiting):
		return t.refuse(t.path, errors.New("the file is gone"))
	case !there && waiting && t.part > 1:
		err = os.Rename(nextPath(t.path), t.path)
	case waiting:
		err = os.Remove(nextPath(t.path))
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if !there && (!waiting || t.part == 1) {
		flags = os.O_CREATE | os.O_EXCL
	}
	if t.f, err = openAppend(t.path, flags); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	t.info, err = regular(t.f)
	return err
}

// follow checks a file from off on, where the chain is at t.at, and takes t.at
// to its end. It returns where the last whole record ends, and how many bytes
// of a partial line stand behind it.
func (t *Trail) follow(name string, off int64) (size, torn int64, err error) {
	f, err := openFile(name)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	if err := t.tail(f, off); err != nil {
		return 0, 0, err
	}
	if _, err := f.Seek(off, 0); err != nil {
		return 0, 0, err
	}
	var wrong error
	w := walker{mac: t.mac, at: t.at, seen: func(Record) {}, problem: func(_ int, what string) {
		if wrong == nil {
			wrong = errors.New(what)
		}
	}}
	lines := newLineReader(f, off)
	size = off
	for wrong == nil {
		text, n, whole, err := lines.next()
		if err != nil {
			return 0, 0, err
		}
		if n > 0 && whole {
			w.take(lines.line, text, n)
			size = lines.off
			continue
		}
		w.flush()
		torn = n
		break
	}
	t.at = w.at
	return size, torn, wrong
}

// tail checks that the record before off is the one that the chain is at.
func (t *Trail) tail(f *os.File, off int64) error {
	if off == 0 {
		return nil
	}
	buf := make([]byte, min(off, 2*maxRecord))
	if _, err := f.ReadAt(buf, off-int64(len(buf))); err != nil {
		return fmt.Errorf("the end of the file is missing: %w", err)
	}
	last := len(buf) - 1
	from := last
	for from > 0 && buf[from-1] != '\n' {
		from--
	}
	mac, ok := t.mac.open(buf[from:last])
	if !ok || buf[last] != '\n' || string(mac) != string(t.at.mac[:]) {
		return errors.New("the record that the head file names is not there")
	}
	return nil
}

func tornError(n int64) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("its last line is not whole (%d bytes)", n)
}

// refuse says that an existing chain cannot be continued.
func (t *Trail) refuse(name string, err error) error {
	return fmt.Errorf("audit: the trail in %s does not verify, so it is not continued "+
		"(%w); look at it with `vault-mcp audit verify`, then move %s* away as evidence and start again",
		name, err, t.path)
}
