package server

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// A browser's EventSource sends no headers. So a page asks with its credential for
// a handle, and opens the stream with that: random bytes that open one stream of
// events, filtered as was asked for, as the principal and for as long as the
// credential that it was made with is good; for five minutes at most.
//
// The handle is kept nowhere. What it stands for, with the credential, is kept
// under a digest of it, encrypted with a key that is derived from it and from the
// server's: who reads the store reads nothing.

// Bounds of handles.
const (
	tokenLife   = 5 * time.Minute
	tokenPrefix = "events_"
	tokenSize   = 32 // random bytes
	maxWish     = 32 << 10
	maxRecord   = 96 << 10
)

// TokenStore keeps what handles of streams stand for.
type TokenStore interface {
	// Put keeps a record under a name until it expires. How many records an owner
	// has is bounded; the error is a *fault.Error.
	Put(ctx context.Context, name, owner string, record []byte, expires time.Time) error
	// Get gives a record back; nil where there is none, or none any more.
	Get(ctx context.Context, name string) ([]byte, error)
}

// tokenRecord is what a handle stands for.
type tokenRecord struct {
	Owner, Prefix string // of the principal
	Expires       time.Time
	URIs, Types   []string

	Header       http.Header // the credential, as it was shown
	Peer         netip.Addr
	Certificates [][]byte
}

// shown is the credential that the handle was made with.
func (t *tokenRecord) shown() (p auth.Presented, err error) {
	p = auth.Presented{Header: t.Header, Peer: t.Peer}
	for _, der := range t.Certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return p, err
		}
		p.Certificates = append(p.Certificates, cert)
	}
	return p, nil
}

// giveToken serves /events/tokens.
func (s *Server) giveToken(a *answer, r *http.Request, c *caller) {
	c.transport = transportFeed
	if r.Method != http.MethodPost {
		a.Header().Set("Allow", http.MethodPost)
		s.refuse(a, http.StatusMethodNotAllowed, c, fault.New(fault.Invalid, "this endpoint takes POST"))
		return
	}
	if !s.requests.enter() {
		a.Header().Set("Connection", "close")
		s.refuse(a, 0, c, shuttingDown())
		return
	}
	defer s.requests.leave()
	if !s.isMessage(a, r, c, maxWish) || !s.admit(a, r, c) {
		return
	}
	body, ok := s.readBody(a, r, c, maxWish)
	defer giveBack(body)
	if !ok {
		return
	}
	wish := wish{later: true}
	var in struct {
		URIs  []string `json:"uri"`
		Types []string `json:"type"`
	}
	if jsonv2.Unmarshal(body.Bytes(), &in, jsonv2.RejectUnknownMembers(true)) != nil {
		s.refuse(a, 0, c, fault.New(fault.Invalid, "the body must be a JSON object with nothing but uri and type, each a list of strings and each optional"))
		return
	}
	wish.uris, wish.types = in.URIs, in.Types
	if _, ok := s.listen(a, r, c, wish); !ok {
		return
	}
	token, expires, err := s.newToken(r.Context(), c, wish)
	if err != nil {
		s.refuse(a, 0, c, fault.From(err))
		return
	}
	s.writeToken(a, token, expires)
}

// writeToken is the one answer in which a handle stands.
func (s *Server) writeToken(a *answer, token string, expires time.Time) {
	// Relative where it is not known under which name clients reach us.
	at := strings.TrimSuffix(s.resource.url, "/mcp") + "/events?" + url.Values{paramToken: {token}}.Encode()
	b, _ := jsonv2.Marshal(struct { // strings always encode
		Token   string `json:"token"`
		Expires string `json:"expires_at"`
		URL     string `json:"url"`
	}{token, expires.UTC().Format(time.RFC3339), at})
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(http.StatusCreated)
	_, _ = a.Write(b)
}

// newToken makes a handle for what the caller wishes to hear.
func (s *Server) newToken(ctx context.Context, c *caller, w wish) (token string, expires time.Time, err error) {
	expires = time.Now().Add(tokenLife).Truncate(time.Second)
	if until := c.principal.ExpiresAt; !until.IsZero() && until.Before(expires) {
		expires = until
	}
	record := tokenRecord{
		Owner: c.principal.ID(), Prefix: c.principal.Prefix, Expires: expires, URIs: w.uris, Types: w.types,
		Header: c.shown.Header.Clone(), Peer: c.shown.Peer,
	}
	record.Header.Del("Cookie") // never a credential here
	for _, cert := range c.shown.Certificates {
		record.Certificates = append(record.Certificates, cert.Raw)
	}
	plain, err := jsonv2.Marshal(record)
	if err != nil || len(plain) > maxRecord {
		return "", expires, fault.New(fault.Invalid, "the request's headers are too large, or not text, for a handle to be made of them")
	}
	random := make([]byte, tokenSize)
	_, _ = rand.Read(random) // never fails
	name, aead, nonce, err := s.sealToken(random)
	if err != nil {
		return "", expires, err
	}
	sealed := aead.Seal(nil, nonce, plain, nil)
	return tokenPrefix + tokenText.EncodeToString(random), expires, s.opt.Tokens.Put(ctx, name, record.Owner, sealed, expires)
}

// tokenText is strict, so that one handle has one spelling.
var tokenText = base64.RawURLEncoding.Strict()

// sealToken is what a handle's bytes give: the name of its record, and what that is
// encrypted with. No two handles are alike, so each key seals one record.
func (s *Server) sealToken(random []byte) (name string, aead cipher.AEAD, nonce []byte, err error) {
	const keySize, nonceSize = 32, 12
	sum := sha256.Sum256(append([]byte("name of an event token of vault-mcp, version 1\x00"), random...))
	derived, err := hkdf.Key(sha256.New, s.opt.Key, random, "record of an event token of vault-mcp, version 1", keySize+nonceSize)
	if err != nil {
		return "", nil, nil, err
	}
	block, err := aes.NewCipher(derived[:keySize])
	if err != nil {
		return "", nil, nil, err
	}
	aead, err = cipher.NewGCM(block)
	return hex.EncodeToString(sum[:]), aead, derived[keySize:], err
}

// errNoToken is all that is said of a handle that opens nothing.
var errNoToken = fault.New(fault.Unauthenticated, "this handle of a stream of events is not known, or has expired")

// redeem finds what a handle stands for.
func (s *Server) redeem(ctx context.Context, token string) (*tokenRecord, error) {
	body, ok := strings.CutPrefix(token, tokenPrefix)
	random, err := tokenText.DecodeString(body)
	if !ok || err != nil || len(random) != tokenSize || strings.ContainsAny(body, "\r\n") {
		return nil, errNoToken
	}
	name, aead, nonce, err := s.sealToken(random)
	if err != nil {
		return nil, err
	}
	sealed, err := s.opt.Tokens.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	record := new(tokenRecord)
	plain, err := aead.Open(nil, nonce, sealed, nil)
	if err != nil || jsonv2.Unmarshal(plain, record) != nil || !time.Now().Before(record.Expires) {
		return nil, errNoToken
	}
	return record, nil
}

// identifyByToken makes the caller the one who made a handle, with the credential
// that it was made with.
func (s *Server) identifyByToken(a *answer, r *http.Request, c *caller, w *wish) bool {
	c.handle = true
	ctx, cancel := context.WithTimeout(r.Context(), s.opt.ReadTimeout)
	defer cancel()
	record, err := s.redeem(ctx, w.handle)
	if err == nil {
		c.shown, err = record.shown()
	}
	if err != nil {
		s.refuseCredential(a, c, err)
		return false
	}
	w.uris, w.types = record.URIs, record.Types
	if !s.identify(a, r, c) {
		return false
	}
	if p := c.principal; p.ID() != record.Owner || p.Prefix != record.Prefix {
		c.principal = nil
		s.refuseCredential(a, c, errNoToken)
		return false
	}
	return true
}
