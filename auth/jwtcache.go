package auth

import (
	"crypto/sha256"
	"sync"
)

// maxVerified bounds the tokens that are known to be good.
const maxVerified = 4096

// verifiedJWTs are tokens that were found good, so that an agent's next call need
// not verify its token again, which takes as long as much of the rest of a call.
// A token is one as a whole, by its digest; and it is good only while its issuer's
// keys are the very set that verified it, and until it ends.
type verifiedJWTs struct {
	mu    sync.RWMutex
	known map[[sha256.Size]byte]verifiedJWT
}

type verifiedJWT struct {
	principal *Principal
	issuer    *issuer
	set       *jwks // nil: the issuer's secret
}

func (v *verifiedJWTs) find(digest [sha256.Size]byte) (verifiedJWT, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	found, ok := v.known[digest]
	return found, ok
}

// keep remembers a token. Where there is no room another is forgotten, which costs
// it one more verification.
func (v *verifiedJWTs) keep(digest [sha256.Size]byte, token verifiedJWT) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil {
		v.known = make(map[[sha256.Size]byte]verifiedJWT)
	}
	if _, known := v.known[digest]; !known && len(v.known) >= maxVerified {
		for other := range v.known { // any: the order of a map is random
			delete(v.known, other)
			break
		}
	}
	v.known[digest] = token
}
