package vaultx

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"vault-mcp/secret"
)

// Bounds of a ledger.
const (
	ledgerSuffix   = ".accessors"
	maxLedger      = 16 << 20 // bytes of a file
	maxLedgerFiles = 1000     // that are looked at in one folder
	ledgerSlack    = 1024     // lines beyond what is needed before it is written anew

	// ledgerAge is how old a ledger is of which no token can be left, whosever it is.
	ledgerAge = 40 * 24 * time.Hour
)

// ledger is a file of accessors: those of the tokens that one process made and
// did not revoke yet. It holds no token. Each line is a record, sealed so that
// who reads the file cannot revoke anything by it: + or -, the end of the token,
// and its accessor. The process holds a lock on the file as long as it lives, by
// which another one knows whether it does.
type ledger struct {
	folder string
	aead   cipher.AEAD
	about  []byte // the Vault that the accessors are of

	mu    sync.Mutex
	path  string
	file  *os.File // nil: closed
	lines int
	live  map[string]time.Time // accessors and the ends of their tokens
}

// openLedger makes a file in a folder.
func openLedger(folder string, key []byte, about string) (*ledger, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "ledger of child tokens of vault-mcp, version 1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	l := &ledger{folder: folder, about: []byte(about), live: make(map[string]time.Time)}
	if l.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, err
	}
	if err := secret.MakeFolder(folder); err != nil {
		return nil, err
	}
	l.path, l.file, err = newLedgerFile(folder)
	return l, err
}

// newLedgerFile makes a file and locks it.
func newLedgerFile(folder string) (string, *os.File, error) {
	for range 10 {
		path := filepath.Join(folder, secret.RandomHex(8)+ledgerSuffix)
		file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return "", nil, err
		}
		// Another process that looks for forgotten files may have been quicker, and
		// may have taken this one away as empty.
		held, err := secret.TryLock(file, false)
		if err == nil && held && still(path, file) {
			return path, file, nil
		}
		_ = file.Close()
		if err != nil {
			return "", nil, err
		}
	}
	return "", nil, errors.New("no file of accessors could be locked")
}

func still(path string, file *os.File) bool {
	there, err := os.Stat(path)
	ours, errOurs := file.Stat()
	return err == nil && errOurs == nil && os.SameFile(there, ours)
}

// add enters an accessor. Without the entry nobody may use the token.
func (l *ledger) add(accessor string, until time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write('+', accessor, until); err != nil {
		return err
	}
	l.live[accessor] = until
	if l.lines > 2*len(l.live)+ledgerSlack {
		return l.renew()
	}
	return nil
}

// remove strikes an accessor out. If that cannot be written, the next process
// revokes a token that is over, which does no harm.
func (l *ledger) remove(accessor string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until, ok := l.live[accessor]; ok {
		delete(l.live, accessor)
		_ = l.write('-', accessor, until)
	}
}

func (l *ledger) write(sign byte, accessor string, until time.Time) error {
	if l.file == nil {
		return os.ErrClosed
	}
	plain := binary.BigEndian.AppendUint64([]byte{sign}, uint64(max(0, until.Unix())))
	sealed := l.aead.Seal(nil, nil, append(plain, accessor...), l.about) //nolint:gosec // the AEAD makes a random nonce itself
	line := append(base64.RawStdEncoding.AppendEncode(nil, sealed), '\n')
	if _, err := l.file.Write(line); err != nil {
		return err
	}
	l.lines++
	return nil
}

// renew writes what is live to a new file.
func (l *ledger) renew() error {
	path, file, err := newLedgerFile(l.folder)
	if err != nil {
		return err
	}
	old, oldPath := l.file, l.path
	l.path, l.file, l.lines = path, file, 0
	for accessor, until := range l.live {
		if time.Now().After(until) {
			delete(l.live, accessor)
			continue
		}
		if err := l.write('+', accessor, until); err != nil {
			return err
		}
	}
	err = os.Remove(oldPath)
	return errors.Join(err, old.Close())
}

// held are the accessors of tokens that may live.
func (l *ledger) held(now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var accessors []string
	for accessor, until := range l.live {
		if now.Before(until) {
			accessors = append(accessors, accessor)
		}
	}
	return accessors
}

// close takes the file away if nothing is left in it, and gives up the lock.
func (l *ledger) close() {
	left := len(l.held(time.Now()))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	if left == 0 {
		_ = os.Remove(l.path)
	}
	_ = l.file.Close()
	l.file = nil
}

// forgotten opens the ledgers of processes that are no more. The caller closes
// them. Of another Vault's there is nothing to be read.
func (l *ledger) forgotten() ([]*ledger, error) {
	folder, err := os.Open(l.folder)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	names, err := folder.Readdirnames(maxLedgerFiles)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var books []*ledger
	var errs []error
	for _, name := range names {
		if filepath.Ext(name) != ledgerSuffix {
			continue
		}
		book, err := l.open(filepath.Join(l.folder, name))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		if book != nil {
			books = append(books, book)
		}
	}
	return books, errors.Join(errs...)
}

// open opens another process's ledger; nil if that lives, or is of another Vault.
func (l *ledger) open(path string) (*ledger, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) { // another process was quicker
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	free, err := secret.TryLock(file, false)
	if err != nil || !free || !still(path, file) {
		return nil, errors.Join(err, file.Close())
	}
	book := &ledger{folder: l.folder, aead: l.aead, about: l.about, path: path, file: file, live: make(map[string]time.Time)}
	info, err := file.Stat()
	if err == nil && time.Since(info.ModTime()) > ledgerAge {
		return book, nil // as if nothing stood in it
	}
	if err = errors.Join(err, book.read()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return book, nil
}

var errForeignLedger = errors.New("it is of another Vault or sealed with another key, or something has changed it")

// read reads the file. A last line without an end is what a crash left.
func (l *ledger) read() error {
	data, _, err := secret.ReadPrivate(l.path, maxLedger)
	if err != nil {
		return err
	}
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		if !whole {
			return nil
		}
		data = rest
		sealed, err := base64.RawStdEncoding.AppendDecode(nil, line)
		if err != nil {
			return errForeignLedger
		}
		plain, err := l.aead.Open(nil, nil, sealed, l.about)
		if err != nil || len(plain) < 10 {
			return errForeignLedger
		}
		accessor := string(plain[9:])
		if plain[0] == '+' {
			l.live[accessor] = time.Unix(int64(binary.BigEndian.Uint64(plain[1:9])), 0)
		} else {
			delete(l.live, accessor)
		}
	}
	return nil
}
