package kmsx

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"vault-mcp/fault"
)

// Key is a key as AWS describes it.
type Key struct {
	ARN, ID string
	Usage   string // ENCRYPT_DECRYPT, SIGN_VERIFY, …
	Spec    string // SYMMETRIC_DEFAULT, RSA_2048, ECC_NIST_P256, …

	algorithms []string // of signing
}

// symmetric is the spec of a symmetric key.
const symmetric = string(types.KeySpecSymmetricDefault)

// Bounds of what is remembered of keys. An alias that is pointed elsewhere goes
// on naming its old key for so long.
const (
	keysKept    = 256
	keysKeptFor = time.Minute
)

// Resolve finds the key of a key id, on behalf of a principal. What it found is
// kept for a short time. It does not say whether the caller may use the key;
// that is for grants, see Names. Errors are about the argument "/key_id".
func (c *Client) Resolve(ctx context.Context, owner, keyID string) (Key, error) {
	n, err := parseKeyID(keyID)
	if err != nil {
		return Key{}, fault.Field(fieldKeyID, fault.From(err).Msg)
	}
	if n.region != "" && n.region != c.cfg.Region {
		return Key{}, fault.Field(fieldKeyID, "must be of the region whose keys this server uses")
	}
	ask := keyID
	if n.alias != "" {
		// By its bare name an alias is one of the server's own account, whatever
		// ARN the caller put before it.
		ask = n.alias
	}
	key, ok := c.keys.get(ask, time.Now())
	if !ok {
		if key, err = c.lookUp(ctx, owner, ask); err != nil {
			return Key{}, err
		}
	}
	is, _ := parseKeyARN(key.ARN)
	if n.alias != "" && n.account != "" && (n.account != is.account || n.region != is.region || n.partition != is.partition) {
		return Key{}, fault.Field(fieldKeyID, "must be an alias of the server's own AWS account; name a key of another account by its key ARN")
	}
	return key, nil
}

// lookUp asks AWS what a key is, once for all who want to know at the same time.
// The question is asked in the name of the first of them, and goes on though that
// one leaves; if it was held back for that one's share of the requests, the others
// ask for themselves.
func (c *Client) lookUp(ctx context.Context, owner, ask string) (Key, error) {
	asked := false
	answer := c.lookups.DoChan(ask, func() (_ any, err error) {
		asked = true
		defer func() {
			if p := recover(); p != nil { // no handler of ours stands above it
				err = fault.Panicked(p)
			}
		}()
		if key, ok := c.keys.get(ask, time.Now()); ok { // the answer came since we looked
			return key, nil
		}
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestCall)
		defer cancel()
		defer context.AfterFunc(c.base, cancel)() //nolint:contextcheck // two ends: its own and the client's
		return c.describe(detached, owner, ask)
	})
	select {
	case <-ctx.Done():
		return Key{}, classify(ctx, ctx.Err())
	case got := <-answer:
		if !asked && errors.Is(got.Err, errHeldBack) {
			return c.describe(ctx, owner, ask)
		}
		if got.Err != nil {
			return Key{}, got.Err
		}
		return got.Val.(Key), nil
	}
}

// describe asks AWS what a key is, and remembers it.
func (c *Client) describe(ctx context.Context, owner, ask string) (Key, error) {
	ctx, done := begin(ctx, owner)
	defer done()
	out, err := c.api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(ask)})
	if err != nil {
		return Key{}, classify(ctx, err)
	}
	m := out.KeyMetadata
	if m == nil {
		return Key{}, unreadable()
	}
	key := Key{
		ARN: aws.ToString(m.Arn), ID: aws.ToString(m.KeyId),
		Usage: string(m.KeyUsage), Spec: string(m.KeySpec),
	}
	for _, algorithm := range m.SigningAlgorithms {
		key.algorithms = append(key.algorithms, string(algorithm))
	}
	// What grants are held against must be what it says that it is.
	if is, ok := parseKeyARN(key.ARN); !ok || is.key != key.ID || is.region != c.cfg.Region {
		return Key{}, unreadable()
	}
	if m.KeyManager == types.KeyManagerTypeAws {
		return Key{}, fault.Field(fieldKeyID, "must not be a key that AWS manages")
	}
	c.keys.put(ask, key, time.Now())
	return key, nil
}

// keyCache remembers keys by the name that AWS was asked for.
type keyCache struct {
	mu   sync.Mutex
	kept map[string]keptKey
}

type keptKey struct {
	key   Key
	until time.Time
}

func newKeyCache() *keyCache { return &keyCache{kept: make(map[string]keptKey)} }

func (k *keyCache) get(name string, now time.Time) (Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found, ok := k.kept[name]
	if !ok || !now.Before(found.until) {
		return Key{}, false
	}
	return found.key, true
}

// put makes room, if need be, by forgetting what has expired, or else what
// would expire first.
func (k *keyCache) put(name string, key Key, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, there := k.kept[name]; !there && len(k.kept) >= keysKept {
		oldest := ""
		for other, found := range k.kept {
			if !now.Before(found.until) {
				delete(k.kept, other)
			} else if oldest == "" || found.until.Before(k.kept[oldest].until) {
				oldest = other
			}
		}
		if len(k.kept) >= keysKept {
			delete(k.kept, oldest)
		}
	}
	k.kept[name] = keptKey{key, now.Add(keysKeptFor)}
}
