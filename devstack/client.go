package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"vault-mcp/secret"
)

// Bounds of our own requests.
const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 32 << 20
)

// StatusError is an answer of Vault other than success.
type StatusError struct {
	Method, Path string
	Status       int
	Errors       []string // Vault's words
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: status %d: %s", e.Method, e.Path, e.Status, strings.Join(e.Errors, "; "))
}

// Request does one request with the root token. The path is relative to /v1/
// and stands as in a URL: escaped, with a query if need be. A body is sent as
// JSON unless it is nil; the answer is decoded into out unless that is nil.
// An answer other than success is a *StatusError.
func (v *Vault) Request(ctx context.Context, method, path string, body, out any) error {
	var payload io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, v.Addr+"/v1/"+path, payload)
	if err != nil {
		return err
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json") // Vault refuses others
	}
	req.Header.Set("X-Vault-Request", "true")
	if !v.RootToken.IsZero() {
		req.Header.Set("X-Vault-Token", v.RootToken.Reveal())
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var said struct {
			Errors []string `json:"errors"`
		}
		_ = json.Unmarshal(answer, &said) // the status alone will do where the body is not Vault's
		return &StatusError{Method: method, Path: path, Status: resp.StatusCode, Errors: said.Errors}
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// PutSecret writes a new version of a secret. The path is plain, not escaped,
// and relative to the KV engine: "mcp/dev/app/config".
func (v *Vault) PutSecret(ctx context.Context, path string, data map[string]any) error {
	return v.Request(ctx, http.MethodPost, dataPath(path), map[string]any{"data": data}, nil)
}

// GetSecret reads the newest version of a secret; numbers are float64.
func (v *Vault) GetSecret(ctx context.Context, path string) (map[string]any, error) {
	var answer struct {
		Data struct {
			Data map[string]any `json:"data"`
		} `json:"data"`
	}
	err := v.Request(ctx, http.MethodGet, dataPath(path), nil, &answer)
	return answer.Data.Data, err
}

func dataPath(path string) string {
	u := url.URL{Path: Mount + "/data/" + path}
	return u.EscapedPath()
}

// Seal seals the server.
func (v *Vault) Seal(ctx context.Context) error {
	return v.Request(ctx, http.MethodPut, "sys/seal", nil, nil)
}

// Unseal unseals the server and returns when it can be used again.
func (v *Vault) Unseal(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := v.key()
	if key.IsZero() {
		return errors.New("the unseal key is not known: this server did not print it; start one with Options.File")
	}
	if err := v.unseal(ctx, key); err != nil {
		return err
	}
	return v.await(ctx, v.Log, v.kvReady)
}

func (v *Vault) unseal(ctx context.Context, key secret.Text) error {
	return v.Request(ctx, http.MethodPut, "sys/unseal", map[string]any{"key": key.Reveal()}, nil)
}

// CreateToken makes a token that may do what the policy says and nothing else:
// not even what Vault's default policy lets every token do.
func (v *Vault) CreateToken(ctx context.Context, policyHCL string) (secret.Text, error) {
	name := "devstack-" + uuid.NewString()
	// An empty policy too must be named: a token without one inherits those of
	// its creator, which is root. The comment is because Vault takes no empty one.
	policy := map[string]any{"policy": "# made by devstack\n" + policyHCL}
	err := v.Request(ctx, http.MethodPut, "sys/policies/acl/"+name, policy, nil)
	if err != nil {
		return secret.Text{}, err
	}
	body := map[string]any{"policies": []string{name}, "no_default_policy": true}
	var answer struct {
		Auth struct {
			ClientToken secret.Text `json:"client_token"`
		} `json:"auth"`
	}
	err = v.Request(ctx, http.MethodPost, "auth/token/create", body, &answer)
	return answer.Auth.ClientToken, err
}
