package vaultx

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// KVSecret is one version of a secret in the KV engine, version 2.
type KVSecret struct {
	Data     secret.JSON
	Metadata KVVersionMetadata
}

// KVVersionMetadata describes one version. Times are RFC 3339, or empty.
type KVVersionMetadata struct {
	Version        int               `json:"version"`
	CreatedTime    string            `json:"created_time"`
	DeletionTime   string            `json:"deletion_time,omitzero"`
	Destroyed      bool              `json:"destroyed"`
	CustomMetadata map[string]string `json:"custom_metadata,omitzero"`
}

// KVRead reads a version; 0 is the newest. One that is deleted or destroyed is
// NotFound, with details "state" (deleted, destroyed) and "metadata".
func KVRead(ctx context.Context, b *Bound, version int) (KVSecret, error) {
	var req Request
	switch {
	case version < 0:
		return KVSecret{}, fault.Field("/version", "must not be negative")
	case version > 0:
		req.Query = url.Values{"version": {strconv.Itoa(version)}}
	}
	resp, err := b.Do(ctx, req)
	var body struct {
		Data     jsontext.Value    `json:"data"`
		Metadata KVVersionMetadata `json:"metadata"`
	}
	gone := err != nil && errors.Is(err, fault.NotFound) && resp != nil
	if err != nil && !gone {
		return KVSecret{}, err
	}
	if gone && version > 0 {
		f := fault.From(err)
		f.Msg = "there is no such version, or nothing at this path"
		err = f
	}
	if decodeErr := decodeData(resp, &body); decodeErr != nil {
		if gone {
			return KVSecret{}, err
		}
		return KVSecret{}, decodeErr
	}
	if gone {
		return KVSecret{}, goneFault(err, body.Metadata)
	}
	if body.Data.Kind() != '{' || body.Metadata.Version == 0 {
		// KV version 1 gives back what it was given, which may look like this.
		return KVSecret{}, unreadable(errors.New("it has no version, or no data"))
	}
	return KVSecret{Data: secret.NewJSON(body.Data), Metadata: body.Metadata}, nil
}

// goneFault says whether a version that has no data is deleted or destroyed.
func goneFault(err error, m KVVersionMetadata) error {
	f := fault.From(err)
	var state, msg string
	switch {
	case m.Version == 0:
		return f
	case m.Destroyed:
		state, msg = "destroyed", "this version is destroyed; its data are gone for good"
	default:
		state, msg = "deleted", "this version is deleted; kv.undelete brings it back"
	}
	f = f.With("state", state).With("metadata", m)
	f.Msg = msg
	return f
}

// KVVersion is what a write made.
type KVVersion struct {
	Version     int    `json:"version"`
	CreatedTime string `json:"created_time"`
}

// KVWrite writes a new version. With cas it does so only if that is the
// current version's number, else Conflict.
func KVWrite(ctx context.Context, b *Bound, data KVData, cas *int) (KVVersion, error) {
	return kvPut(ctx, b, data, cas, false)
}

// KVPatch applies a JSON merge patch (RFC 7396) in Vault. A secret that does
// not exist, or whose newest version is deleted, is NotFound.
func KVPatch(ctx context.Context, b *Bound, data KVData, cas *int) (KVVersion, error) {
	return kvPut(ctx, b, data, cas, true)
}

func kvPut(ctx context.Context, b *Bound, data KVData, cas *int, patch bool) (KVVersion, error) {
	body := struct {
		Data    secret.JSON    `json:"data"`
		Options map[string]int `json:"options,omitzero"`
	}{Data: data.Value()}
	if cas != nil {
		body.Options = map[string]int{"cas": *cas}
	}
	resp, err := b.Do(ctx, Request{Body: body, MergePatch: patch})
	if err != nil {
		if patch && errors.Is(err, fault.NotFound) {
			return KVVersion{}, unpatchable(resp, err)
		}
		return KVVersion{}, err
	}
	var v KVVersion
	if err := decodeData(resp, &v); err != nil {
		return v, b.unlessRetryable(fault.From(err)) // it was written, whatever this is
	}
	return v, nil
}

// unpatchable says why there was nothing to patch.
func unpatchable(resp *Response, err error) error {
	var newest KVVersionMetadata
	if resp != nil && decodeData(resp, &newest) == nil && newest.Version > 0 {
		return goneFault(err, newest)
	}
	f := fault.From(err).With("state", "absent")
	f.Msg = "there is no secret to patch; write it with kv.write"
	return f
}

// KVList lists the names in a folder; none if there is no such folder, which
// Vault does not tell from an empty one.
func KVList(ctx context.Context, b *Bound) ([]string, error) {
	resp, err := b.Do(ctx, Request{})
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var body struct {
		Keys []string `json:"keys"`
	}
	err = decodeData(resp, &body)
	return body.Keys, err
}

// KVMetadata describes a secret and its versions.
type KVMetadata struct {
	CurrentVersion     int
	OldestVersion      int
	MaxVersions        int
	CASRequired        bool
	DeleteVersionAfter string
	CreatedTime        string
	UpdatedTime        string
	CustomMetadata     map[string]string
	Versions           []KVVersionInfo // by number
}

// KVVersionInfo describes one version in a KVMetadata.
type KVVersionInfo struct {
	Version      int
	CreatedTime  string
	DeletionTime string
	Destroyed    bool
}

// KVMetadataOf reads a secret's metadata.
func KVMetadataOf(ctx context.Context, b *Bound) (KVMetadata, error) {
	resp, err := b.Do(ctx, Request{})
	if err != nil {
		return KVMetadata{}, err
	}
	var body struct {
		CurrentVersion     int               `json:"current_version"`
		OldestVersion      int               `json:"oldest_version"`
		MaxVersions        int               `json:"max_versions"`
		CASRequired        bool              `json:"cas_required"`
		DeleteVersionAfter string            `json:"delete_version_after"`
		CreatedTime        string            `json:"created_time"`
		UpdatedTime        string            `json:"updated_time"`
		CustomMetadata     map[string]string `json:"custom_metadata"`
		Versions           map[string]struct {
			CreatedTime  string `json:"created_time"`
			DeletionTime string `json:"deletion_time"`
			Destroyed    bool   `json:"destroyed"`
		} `json:"versions"`
	}
	if err := decodeData(resp, &body); err != nil {
		return KVMetadata{}, err
	}
	m := KVMetadata{
		body.CurrentVersion, body.OldestVersion, body.MaxVersions, body.CASRequired, body.DeleteVersionAfter,
		body.CreatedTime, body.UpdatedTime, body.CustomMetadata, nil,
	}
	for number, v := range body.Versions {
		n, err := strconv.Atoi(number)
		if err != nil {
			return KVMetadata{}, unreadable(errors.New("the number of a version is none"))
		}
		m.Versions = append(m.Versions, KVVersionInfo{n, v.CreatedTime, v.DeletionTime, v.Destroyed})
	}
	slices.SortFunc(m.Versions, func(a, b KVVersionInfo) int { return a.Version - b.Version })
	return m, nil
}

// KVDelete deletes the newest version. Deleting what is not there succeeds.
func KVDelete(ctx context.Context, b *Bound) error {
	_, err := b.Do(ctx, Request{})
	return err
}

// KVVersions deletes, undeletes or destroys versions, whichever b is bound to.
// For a version that never was, or is destroyed, Vault succeeds and does nothing.
func KVVersions(ctx context.Context, b *Bound, versions []int) error {
	_, err := b.Do(ctx, Request{Body: struct {
		Versions []int `json:"versions"`
	}{versions}})
	return err
}

// decodeData reads the data member of an answer.
func decodeData(resp *Response, into any) error {
	if resp == nil || len(resp.Data) == 0 {
		return unreadable(errors.New("no data"))
	}
	if err := jsonv2.Unmarshal(resp.Data, into); err != nil {
		return unreadable(secret.JSONError(err))
	}
	return nil
}

// unreadable is the fault of an answer that cannot be what it should be. The
// cause is for the log, so it must hold nothing of the answer.
func unreadable(cause error) error {
	return fault.Wrap(fault.Unavailable, "Vault's answer is not what this engine gives; the mount may hold another engine, or KV version 1", cause)
}
