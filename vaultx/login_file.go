package vaultx

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// fileEvery is how often a token's file is looked at.
const fileEvery = time.Second

// tokenFile is a token that somebody else, such as Vault Agent, keeps alive and
// puts into a file. It needs no goroutine: a request that finds the last look too
// old takes the next one, and one that is refused looks at once. A file that
// cannot be read leaves the token of before in force: only Vault says when that
// has ended. It implements tokens.
type tokenFile struct {
	path   string
	notify func(Notice)
	fresh  func()

	now atomic.Pointer[secret.Text]

	mu      sync.Mutex // held while looking
	seen    os.FileInfo
	settled bool // seen cannot have changed since without a new time of change
	at      time.Time
	problem *fault.Error
}

func newTokenFile(path string, first secret.Text, notify func(Notice), fresh func()) *tokenFile {
	if notify == nil {
		notify = func(Notice) {}
	}
	t := &tokenFile{path: path, notify: notify, fresh: fresh}
	t.now.Store(&first)
	return t
}

// token implements tokens. One request looks when it is time; the others do not
// wait for it, nor for a disk that hangs.
func (t *tokenFile) token(context.Context) (secret.Text, error) {
	if t.mu.TryLock() {
		if time.Since(t.at) >= fileEvery {
			t.look()
		}
		t.mu.Unlock()
	}
	return *t.now.Load(), nil
}

// renewed implements tokens.
func (t *tokenFile) renewed(_ context.Context, refused secret.Text) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now.Load().Reveal() == refused.Reveal() {
		t.seen = nil
		t.look()
	}
	return t.now.Load().Reveal() != refused.Reveal()
}

// trouble is what is wrong with the file.
func (t *tokenFile) trouble() *fault.Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.problem
}

// look takes up what changed. The caller holds mu.
func (t *tokenFile) look() {
	t.at = time.Now()
	if info, err := os.Stat(t.path); err == nil && t.problem == nil && t.settled && unchanged(info, t.seen) {
		return
	}
	token, info, err := readTokenFile(t.path)
	if err != nil {
		t.trip(err)
		return
	}
	t.seen = info
	// File systems tell time in steps. Within one, a file can change again and
	// keep its time; so a file that is so young is read again.
	t.settled = time.Since(info.ModTime()) > 2*time.Second
	if t.problem != nil {
		t.problem = nil
		t.notify(Notice{Text: "VAULT_TOKEN_FILE can be read again"})
	}
	if token.Reveal() != t.now.Load().Reveal() {
		t.now.Store(&token)
		t.fresh()
		t.notify(Notice{Text: "took up a new Vault token from VAULT_TOKEN_FILE"})
	}
}

// trip keeps and tells what is wrong with the file.
func (t *tokenFile) trip(err error) {
	problem := fault.Wrap(fault.Unavailable, "VAULT_TOKEN_FILE: "+err.Error()+"; the token read before stays in use", err)
	if t.problem == nil || t.problem.Msg != problem.Msg {
		t.notify(Notice{Alarm: true, Text: problem.Msg})
	}
	t.problem = problem
}

func unchanged(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
