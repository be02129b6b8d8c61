package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// API keys come from two places. Those that we create are vmcp_<id>_<secret>:
// the id is public and names the key in records, the secret is 256 random bits,
// and only a digest of the whole is kept, in the key file. Those in
// API_KEYS_JSON are whatever the operator wrote.
const (
	keyPrefix   = "vmcp_"
	keyIDBytes  = 6  // in hex: 12 characters
	secretBytes = 32 // in base32: 52 characters

	// Keys of the operator's own: long enough that nobody writes one by
	// accident, and short enough to hash without thinking.
	minKey = 8
	maxKey = 256
)

// digest is what is kept of a key: SHA-256 needs neither salt nor work factor
// where the input has 256 random bits.
type digest [sha256.Size]byte

// digestOf hashes a key of at most maxKey bytes, without allocation.
func digestOf(key string) digest {
	var buf [maxKey]byte
	n := copy(buf[:], key)
	return sha256.Sum256(buf[:n])
}

var keyEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newKey makes a key with a fresh secret for an id.
func newKey(id string) string {
	var b [secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	return keyPrefix + id + "_" + keyEncoding.EncodeToString(b[:])
}

// keyID is the id within a key of ours; for what is none, it is no id.
func keyID(key string) string {
	rest, ours := strings.CutPrefix(key, keyPrefix)
	id, _, _ := strings.Cut(rest, "_")
	if !ours || !isKeyID(id) {
		return ""
	}
	return id
}

func isKeyID(id string) bool {
	return len(id) == 2*keyIDBytes && strings.Trim(id, "0123456789abcdef") == ""
}

// jsonRecord is the long form of an entry in API_KEYS_JSON.
type jsonRecord struct {
	Subject   string    `json:"subject"`
	Scopes    []string  `json:"scopes"`
	Grants    Grants    `json:"grants"`
	ExpiresAt time.Time `json:"expires_at"`

	BindCiphertexts bool `json:"bind_ciphertexts"`
}

// parseKeysJSON reads API_KEYS_JSON: an object from key to subject, or to an
// object with subject and perhaps scopes, grants, expires_at and bind_ciphertexts. Errors name an
// entry by its number, for its name is a key.
func parseKeysJSON(text secret.Text, h *home) (map[digest]holder, []Identity, error) {
	keys := make(map[digest]holder)
	var known []Identity
	if strings.TrimSpace(text.Reveal()) == "" {
		return keys, known, nil
	}
	dec := jsontext.NewDecoder(strings.NewReader(text.Reveal()))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return nil, nil, fault.New(fault.Invalid, "API_KEYS_JSON is not a JSON object")
	}
	for n := 1; dec.PeekKind() != '}'; n++ {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, nil, fault.Newf(fault.Invalid, "API_KEYS_JSON: entry %d is not JSON, or its key was given before", n)
		}
		key := name.String()
		raw, err := dec.ReadValue()
		if err != nil {
			return nil, nil, fault.Newf(fault.Invalid, "API_KEYS_JSON: the value of entry %d is not JSON", n)
		}
		id, err := jsonIdentity(n, key, raw)
		if err == nil {
			keys[digestOf(key)], err = h.holder(id)
		}
		if err != nil {
			return nil, nil, fault.Newf(fault.Invalid, "API_KEYS_JSON: entry %d: %s", n, fault.From(err).Msg)
		}
		known = append(known, id)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, nil, fault.New(fault.Invalid, "API_KEYS_JSON: the object does not end")
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, nil, fault.New(fault.Invalid, "API_KEYS_JSON: something follows the object")
	}
	return keys, known, nil
}

// jsonIdentity is who bears the key of entry n. Records name its key by that
// number: anything made of the key would help to guess it.
func jsonIdentity(n int, key string, raw jsontext.Value) (id Identity, err error) {
	if len(key) < minKey || len(key) > maxKey || !secret.IsHeaderText(key) {
		return id, fault.Newf(fault.Invalid, "a key has %d to %d printable ASCII characters and no blanks", minKey, maxKey)
	}
	var record jsonRecord
	switch raw.Kind() {
	case '"':
		if err := json.Unmarshal(raw, &record.Subject); err != nil {
			return id, fault.New(fault.Invalid, "the subject is not a text")
		}
	case '{':
		if err := decodeStrict(raw, &record); err != nil {
			return id, err
		}
	default:
		return id, fault.New(fault.Invalid, "want a subject, or an object with a subject")
	}
	scopes, err := scopesOf(record.Scopes)
	if err != nil {
		return id, err
	}
	if err := record.Grants.check(); err != nil {
		return id, err
	}
	return Identity{
		Subject: record.Subject, Method: MethodAPIKey, CredentialID: "json-" + strconv.Itoa(n),
		Scopes: scopes, Grants: record.Grants, ExpiresAt: record.ExpiresAt, BindCiphertexts: record.BindCiphertexts,
	}, nil
}

// scopesOf are the scopes of a record: all four where it says nothing of them.
func scopesOf(list []string) (Scopes, error) {
	if list == nil {
		return AllScopes(), nil
	}
	return ParseScopes(list)
}

// decodeStrict reads an object of which every member must be known and none be
// null, or the zero time, which could otherwise pass for "not given": a key that
// never expires. Its errors hold no value
// and no name but those of our own members.
func decodeStrict(raw []byte, into any) error {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := dec.ReadToken()
		if err != nil { // the end, or a mistake that Unmarshal will find
			break
		}
		if token.Kind() == 'n' {
			return fault.New(fault.Invalid, at(dec.StackPointer())+"null is no value here; leave the member out")
		}
		if token.Kind() != '"' {
			continue
		}
		if when, err := time.Parse(time.RFC3339, token.String()); err == nil && when.IsZero() {
			return fault.New(fault.Invalid, at(dec.StackPointer())+"the first second of the year 1 is no time; leave the member out")
		}
	}
	err := json.Unmarshal(raw, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	return fault.New(fault.Invalid, describe(err))
}
