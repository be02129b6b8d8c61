package vaultx

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

const (
	msgNoChild     = "the principal's own Vault token cannot be made; an operator must check CHILD_TOKEN_ROLE and the policy of the server's token"
	msgWrongChild  = "Vault made another token than the principal's own; an operator must check CHILD_TOKEN_ROLE"
	msgNoLedger    = "the server cannot keep account of child tokens; an operator must check STATE_DIR"
	msgNoPolicy    = "Vault has no policy for this principal; an operator must make it by 'vault-mcp policy apply'"
	msgEmptyPolicy = "the principal's policy in Vault allows nothing; an operator must make it right by 'vault-mcp policy apply'"
)

// minted is a token that was made.
type minted struct {
	token          secret.Text
	accessor       string
	refresh, until time.Time // of the monotonic clock
	policy         policyDigest
}

// usable reports whether a token lives, and will for as long as a request takes
// to reach Vault.
func (m *minted) usable(now time.Time) bool { return m != nil && now.Before(m.until) }

// policyDigest tells one content of a policy from another. It is zero where the
// server may not read policies: changes are then not seen, which costs nothing
// but tokens that live on, since Vault itself goes by what the policy says now.
type policyDigest [sha256.Size]byte

// lostError marks a policy that is not there or allows nothing: no token is made
// or used.
type lostError struct{ error }

func lost(err error) bool {
	var l lostError
	return errors.As(err, &l)
}

// look reads a policy.
func (s *children) look(ctx context.Context, name string) (policyDigest, error) {
	text, err := s.client.ReadPolicy(ctx, name)
	switch {
	case errors.Is(err, fault.Forbidden):
		return policyDigest{}, nil
	case errors.Is(err, fault.NotFound):
		return policyDigest{}, fault.Wrap(fault.Forbidden, msgNoPolicy, lostError{errors.New("there is no policy " + name)})
	case err != nil:
		return policyDigest{}, noChild(err)
	}
	rules, err := ParsePolicy(text)
	if err == nil && !slices.ContainsFunc(rules, func(r Rule) bool { return len(r.Capabilities) > 0 || len(r.Other) > 0 }) {
		return policyDigest{}, fault.Wrap(fault.Forbidden, msgEmptyPolicy, lostError{errors.New("nothing is in the policy " + name)})
	}
	return sha256.Sum256([]byte(text)), nil
}

// noChild is the error of a request on the way to a token. That one's own
// outcome does not matter: of the call itself nothing was done.
func noChild(err error) *fault.Error {
	f := fault.From(err)
	switch f.Kind {
	case fault.RateLimited, fault.Timeout, fault.Canceled, fault.Unavailable:
		told := fault.Wrap(f.Kind, f.Msg, f.Err)
		told.RetryAfter = f.RetryAfter
		return told
	default: // it is the role, or what the server's token may do
	}
	return fault.Wrap(fault.Unavailable, msgNoChild, f.Err)
}

var (
	createChild  = fixed(http.MethodPost, "auth/token/create")
	createByRole = MustTemplate("auth/token/create/{role}")
)

// mint has Vault make a token with one policy, and looks whether it is that. It
// stands in the ledger before anybody has it.
func (s *children) mint(ctx context.Context, spec ChildSpec, ttl time.Duration, policy policyDigest) (*minted, error) {
	if err := CheckPolicyName(spec.Policy); err != nil {
		return nil, fault.Wrap(fault.Unavailable, msgNoChild, err)
	}
	op, err := createChild, error(nil)
	if s.opt.Role != "" {
		op, err = NewOperation("update", createByRole, map[string]string{"role": s.opt.Role})
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, msgNoChild, err)
	}
	b := s.client.ask(op)
	b.opt.Retryable = false
	began, seconds := time.Now(), max(1, int64(ttl.Seconds()))
	life := strconv.FormatInt(seconds, 10) + "s"
	resp, err := b.Do(ctx, Request{Body: map[string]any{
		"policies": []string{spec.Policy}, "no_default_policy": true, "type": "service",
		"ttl": life, "explicit_max_ttl": life, "renewable": false,
		"display_name": displayName(spec.Name), "meta": map[string]string{"subject": spec.Name},
	}})
	if err != nil {
		return nil, noChild(err)
	}
	var made created
	if err := jsonv2.Unmarshal(resp.whole, &made); err != nil {
		return nil, fault.Wrap(fault.Unavailable, msgWrongChild, secret.JSONError(err))
	}
	granted := time.Duration(made.Auth.Duration) * time.Second
	m := &minted{
		token: made.Auth.Token, accessor: made.Auth.Accessor, policy: policy,
		refresh: began.Add(granted * 2 / 3), until: began.Add(granted),
	}
	wrong := made.fault(spec.Policy, seconds)
	if wrong == nil {
		if err := s.ledger.add(m.accessor, m.until); err != nil {
			wrong = fault.Wrap(fault.Unavailable, msgNoLedger, err)
		}
	}
	if wrong != nil {
		if CheckName(m.accessor) == nil {
			s.revoke.now(m.accessor, m.until)
		}
		return nil, wrong
	}
	return m, nil
}

// created is Vault's answer to the creation of a token.
type created struct {
	Warnings []string `json:"warnings"`
	Auth     struct {
		Token            secret.Text `json:"client_token"`
		Accessor         string      `json:"accessor"`
		Policies         []string    `json:"policies"`
		TokenPolicies    []string    `json:"token_policies"`
		IdentityPolicies []string    `json:"identity_policies"`
		Duration         int64       `json:"lease_duration"`
	} `json:"auth"`
}

// fault says what is wrong with a token. A warning is the only sign that its
// policy does not exist where the server may not read policies.
func (c *created) fault(policy string, seconds int64) *fault.Error {
	want := []string{policy}
	var what string
	switch a := &c.Auth; {
	case a.Token.IsZero() || !secret.IsHeaderText(a.Token.Reveal()) || CheckName(a.Accessor) != nil:
		what = "no token, or none that can be revoked"
	case !slices.Equal(a.Policies, want) || !slices.Equal(a.TokenPolicies, want) || len(a.IdentityPolicies) > 0:
		what = "other policies than the one"
	case a.Duration <= 0 || a.Duration > seconds:
		what = "another life than was asked for"
	case slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "does not exist") }):
		return fault.Wrap(fault.Forbidden, msgNoPolicy, lostError{errors.New("there is no policy " + policy)})
	default:
		return nil
	}
	return fault.Wrap(fault.Unavailable, msgWrongChild, fmt.Errorf("the token for %s has %s", policy, what))
}

// displayName is a slug as Vault's own trail, users of databases and ids of SSH
// certificates can have it.
func displayName(slug string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, slug)
}
