package vaultx

import (
	"context"
	"sync"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// plannedVault is what a keeper asks, with a clock that is not real: it gives
// tokens of one life, which it renews up to a maximum.
type plannedVault struct {
	mu        sync.Mutex
	ttl, most time.Duration
	fails     error // of logins
	noRenewal error
	takes     time.Duration // a login

	began    time.Time
	logins   []time.Duration // when, after the start
	renewals []time.Duration
	born     map[secret.Text]time.Time
	ends     map[secret.Text]time.Time
}

func (v *plannedVault) keeper(notify func(Notice)) *keeper {
	v.began, v.born, v.ends = time.Now(), map[secret.Text]time.Time{}, map[secret.Text]time.Time{}
	k := newKeeper(notify, func() {})
	k.obtain, k.extend = v.login, v.renew
	return k
}

func (v *plannedVault) login(ctx context.Context) (grant, error) {
	select {
	case <-time.After(v.takes):
	case <-ctx.Done():
		return grant{}, fault.From(ctx.Err())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.logins = append(v.logins, time.Since(v.began))
	if v.fails != nil {
		return grant{}, v.fails
	}
	token := secret.NewText(secret.RandomHex(8))
	v.born[token], v.ends[token] = time.Now(), time.Now().Add(v.ttl)
	return grant{token: token, ttl: v.ttl, renewable: true}, nil
}

func (v *plannedVault) renew(_ context.Context, token secret.Text) (grant, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.renewals = append(v.renewals, time.Since(v.began))
	if v.noRenewal != nil {
		return grant{}, v.noRenewal
	}
	left := min(v.ttl, time.Until(v.born[token].Add(v.most))).Truncate(time.Second)
	v.ends[token] = time.Now().Add(left)
	return grant{token: token, ttl: left, renewable: true}, nil
}

// set changes what Vault does from now on.
func (v *plannedVault) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

// good reports whether a token is one that Vault takes now.
func (v *plannedVault) good(token secret.Text) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Now().Before(v.ends[token])
}

func (v *plannedVault) counts() (logins, renewals int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.logins), len(v.renewals)
}

// denied is a login that Vault judged.
var denied = fault.Wrap(fault.Unavailable, msgLogin, deniedError{answeredError(400)})
