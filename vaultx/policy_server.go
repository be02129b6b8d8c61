package vaultx

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"vault-mcp/fault"
)

// TokenRole is a role of Vault's token store, through which children are made.
type TokenRole struct {
	Name     string
	Policies string // what the name of a child's policy begins with
	Longest  time.Duration
}

// tokenRole is what of a role is set and compared. Children are orphans: they,
// and the leases that were issued to them, must outlive the server's own token,
// which ends at every new login.
type tokenRole struct {
	AllowedGlob    []string `json:"allowed_policies_glob"`
	Allowed        []string `json:"allowed_policies"`
	Disallowed     []string `json:"disallowed_policies"`
	NoDefault      bool     `json:"token_no_default_policy"`
	ExplicitMaxTTL int64    `json:"token_explicit_max_ttl"`
	Period         int64    `json:"token_period"`
	Type           string   `json:"token_type"`
	Orphan         bool     `json:"orphan"`
	Renewable      bool     `json:"renewable"`
}

func (r TokenRole) wanted() tokenRole {
	return tokenRole{
		AllowedGlob: []string{r.Policies + "*"}, Allowed: []string{}, Disallowed: []string{"default", "root"}, NoDefault: true,
		ExplicitMaxTTL: int64(r.Longest.Seconds()), Type: "service", Orphan: true,
	}
}

// Comment is the role as HCL's comments show it: the command that makes it.
func (r TokenRole) Comment() string {
	w := r.wanted()
	return fmt.Sprintf(`# vault write auth/token/roles/%s allowed_policies_glob=%q disallowed_policies=default,root \
#   token_no_default_policy=true token_explicit_max_ttl=%d token_type=service orphan=true renewable=false
`, r.Name, w.AllowedGlob[0], w.ExplicitMaxTTL)
}

var tokenRoleTemplate = MustTemplate("auth/token/roles/{role}")

func roleAt(capability, name string) (Operation, error) {
	return NewOperation(capability, tokenRoleTemplate, map[string]string{"role": name})
}

// WriteTokenRole makes a token role, or replaces it.
func (c *Client) WriteTokenRole(ctx context.Context, role TokenRole) error {
	op, err := roleAt("update", role.Name)
	if err != nil {
		return err
	}
	_, err = c.ask(op).Do(ctx, Request{Body: role.wanted()})
	return err
}

// CompareTokenRole says, one line each, in what the role differs from the one
// that is wanted. One that does not exist is NotFound.
func (c *Client) CompareTokenRole(ctx context.Context, role TokenRole) ([]string, error) {
	op, err := roleAt("read", role.Name)
	if err != nil {
		return nil, err
	}
	resp, err := c.ask(op).Do(ctx, Request{})
	if err != nil {
		return nil, err
	}
	var have tokenRole
	if err := decodeData(resp, &have); err != nil {
		return nil, err
	}
	want := role.wanted()
	slices.Sort(have.Disallowed)
	var differences []string
	for _, member := range []struct {
		same bool
		text string
	}{
		{slices.Equal(have.AllowedGlob, want.AllowedGlob), "allowed_policies_glob should be just " + want.AllowedGlob[0]},
		{len(have.Allowed) == 0, "allowed_policies should be empty"},
		{slices.Equal(have.Disallowed, want.Disallowed), "disallowed_policies should be default and root"},
		{have.NoDefault, "token_no_default_policy should be on"},
		{have.ExplicitMaxTTL == want.ExplicitMaxTTL, "token_explicit_max_ttl should be " + strconv.FormatInt(want.ExplicitMaxTTL, 10) + " s"},
		{have.Period == 0, "token_period should be 0"},
		{have.Type == want.Type, "token_type should be service"},
		{have.Orphan, "orphan should be on"},
		{!have.Renewable, "renewable should be off"},
	} {
		if !member.same {
			differences = append(differences, member.text)
		}
	}
	return differences, nil
}

// ServerRules are what the server's own token needs for itself and, with a
// role, for children whose policies begin with a prefix.
func ServerRules(role, policies string) []Rule {
	rules := []Rule{
		{Path: lookupSelf.Path.String(), Capabilities: []string{"read"}},
		{Path: "auth/token/renew-self", Capabilities: []string{"update"}},
		{Path: capabilitiesSelf.Path.String(), Capabilities: []string{"update"}},
	}
	if role == "" {
		return rules
	}
	return append(rules,
		Rule{Path: "auth/token/create/" + role, Capabilities: []string{"update"}},
		Rule{Path: revokeAccessor.Path.String(), Capabilities: []string{"update"}},
		Rule{Path: "sys/policies/acl/" + policies + "*", Capabilities: []string{"read"}},
	)
}

var revokeAccessor = fixed(http.MethodPost, "auth/token/revoke-accessor")

// RevokeAccessor ends the token of an accessor. One that is over already is no
// error.
func (c *Client) RevokeAccessor(ctx context.Context, accessor string) error {
	_, err := c.ask(revokeAccessor).Do(ctx, Request{Body: map[string]string{"accessor": accessor}})
	if fault.KindOf(err) == fault.Invalid || fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}
