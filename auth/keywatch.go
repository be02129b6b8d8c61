package auth

import (
	"crypto/subtle"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// recheck is how old a look at the key file may be. After twice this time no
// call goes on without a new look.
const recheck = time.Second

// fileKey is a key of the file, ready to be compared.
type fileKey struct {
	digest  digest // of the current secret
	holder  holder
	before  digest // of the secret before the last rotation
	earlier holder // of that, whose principal ends sooner; nobody if there is none
}

// keySet is what one state of the file says, by id. It is not changed once it is
// made.
type keySet map[string]*fileKey

// watchedKeys are the keys of a file as it stands. They need no goroutine: a
// call that finds the last look too old takes the next one. A file that cannot
// be read or is not right leaves the keys of before in force, and says so in
// err, so that a slip of the editor does not lock everybody out; but only for
// patience, since it may be a revocation that cannot be read.
type watchedKeys struct {
	file *KeyFile
	home *home
	set  atomic.Pointer[keySet]

	start  time.Time    // of the monotonic clock that looked counts on
	looked atomic.Int64 // when the last look began, in nanoseconds after start

	mu      sync.Mutex // held while looking
	seen    fs.FileInfo
	settled bool // seen cannot have changed since without a new time of change
	err     error
	since   time.Time // when err was first seen
}

// patience is how long the keys of before are in force while the file cannot be
// read or is not right. After it no key of the file is, until it is mended.
const patience = time.Minute

// watchKeys reads the file for the first time; it must be right or not there.
func watchKeys(path string, h *home) (*watchedKeys, error) {
	w := &watchedKeys{file: NewKeyFile(path), home: h, start: time.Now()}
	w.look()
	return w, w.err
}

// current are the keys, looked at no longer ago than twice recheck. One call
// looks when it is time; the others need not wait for it unless it is late.
func (w *watchedKeys) current() keySet {
	switch age := w.age(); {
	case age < recheck:
	case age < 2*recheck:
		if w.mu.TryLock() {
			w.lookIfDue()
			w.mu.Unlock()
		}
	default:
		w.mu.Lock()
		w.lookIfDue()
		w.mu.Unlock()
	}
	return *w.set.Load()
}

// failure is what is wrong with the file, after a look if one is due.
func (w *watchedKeys) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookIfDue()
	return w.err
}

func (w *watchedKeys) age() time.Duration {
	return time.Since(w.start) - time.Duration(w.looked.Load())
}

func (w *watchedKeys) lookIfDue() {
	if w.age() >= recheck {
		w.look()
	}
}

// look takes up what changed. The caller holds mu, or is alone.
func (w *watchedKeys) look() {
	began := time.Since(w.start)
	defer func() {
		switch {
		case w.err == nil:
			w.since = time.Time{}
		case w.since.IsZero():
			w.since = time.Now()
		case time.Since(w.since) >= patience:
			w.set.Store(&keySet{})
		}
		w.looked.Store(int64(began))
	}()
	info, err := os.Stat(w.file.path)
	if err == nil && w.err == nil && w.settled && same(info, w.seen) {
		return
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.err = err
		return
	}
	doc, info, err := w.file.read()
	if err != nil {
		w.err = err
		return
	}
	set, err := w.home.keySet(doc)
	if err != nil {
		w.err = err
		return
	}
	w.set.Store(&set)
	w.seen, w.err = info, nil
	// File systems tell time in steps. Within one, a file can change again and
	// keep its time; so a file that is so young is read again.
	w.settled = info != nil && time.Since(info.ModTime()) > 2*time.Second
}

func same(a, b fs.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// keySet makes the principals of a document's keys.
func (h *home) keySet(doc *keyDocument) (keySet, error) {
	set := make(keySet, len(doc.Keys))
	for i := range doc.Keys {
		key := &doc.Keys[i]
		id, err := key.identity()
		if err != nil {
			return nil, err
		}
		entry := &fileKey{}
		entry.digest, _ = parseDigest(key.SHA256) // checked when it was read
		if entry.holder, err = h.holder(id); err != nil {
			return nil, err
		}
		if key.Previous != nil {
			entry.before, _ = parseDigest(key.Previous.SHA256)
			id.ExpiresAt = key.Previous.Until
			if entry.earlier, err = h.holder(id); err != nil {
				return nil, err
			}
		}
		set[key.ID] = entry
	}
	return set, nil
}

// identity is who bears the key.
func (k *storedKey) identity() (Identity, error) {
	scopes, err := scopesOf(k.Scopes)
	return Identity{
		Subject: k.Subject, Method: MethodAPIKey, CredentialID: k.ID,
		Scopes: scopes, Grants: k.Grants, ExpiresAt: k.ExpiresAt, BindCiphertexts: k.BindCiphertexts,
	}, err
}

// nobody is what an unknown id is compared with, so that it takes as long as a
// known one to find a key wrong.
var nobody = &fileKey{}

// find is whom a key stands for, the zero holder if the set has no such key.
func (s keySet) find(id string, d *digest) holder {
	key, known := s[id]
	if !known {
		key = nobody // whose holders are zero
	}
	current := subtle.ConstantTimeCompare(key.digest[:], d[:])
	before := subtle.ConstantTimeCompare(key.before[:], d[:])
	switch {
	case current == 1:
		return key.holder
	case before == 1:
		return key.earlier // zero without a secret before
	}
	return holder{}
}
