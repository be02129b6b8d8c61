package tools_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// What a server offers, by toolsets, exclusions and read-only mode; and what a
// principal's own toolsets leave of it. whoami is in every toolset.
func TestToolsets(t *testing.T) {
	reading := []string{"kms.verify", "kv.list", "kv.metadata", "kv.read", "transit.verify", "whoami"}
	kv := []string{"kv.delete", "kv.destroy", "kv.list", "kv.metadata", "kv.patch", "kv.read", "kv.undelete", "kv.write", "whoami"}
	all := tools.Names(tools.NewCatalog().Tools())
	credentials := []string{"db.issue_creds", "db.renew", "db.revoke", "ssh.otp", "ssh.sign", "whoami"}
	for about, row := range map[string]struct {
		offer  tools.Offer
		filter auth.ToolFilter
		want   []string
	}{
		"all":                              {tools.Offer{}, auth.ToolFilter{}, all},
		"one engine":                       {tools.Offer{Sets: []string{"kv"}}, auth.ToolFilter{}, kv},
		"two sets":                         {tools.Offer{Sets: []string{"db", "ssh"}}, auth.ToolFilter{}, credentials},
		"a named set":                      {tools.Offer{Sets: []string{"credentials"}}, auth.ToolFilter{}, credentials},
		"what reads":                       {tools.Offer{Sets: []string{"read"}}, auth.ToolFilter{}, reading},
		"read-only mode":                   {tools.Offer{ReadOnly: true}, auth.ToolFilter{}, reading},
		"a set in read-only mode":          {tools.Offer{ReadOnly: true, Sets: []string{"kv"}}, auth.ToolFilter{}, []string{"kv.list", "kv.metadata", "kv.read", "whoami"}},
		"a set but for a tool":             {tools.Offer{Sets: []string{"credentials"}, Exclude: []string{"db", "ssh_otp"}}, auth.ToolFilter{}, []string{"ssh.sign", "whoami"}},
		"but for a set":                    {tools.Offer{Exclude: []string{"crypto", "credentials"}}, auth.ToolFilter{}, kv},
		"but for whoami":                   {tools.Offer{Sets: []string{"kv"}, Exclude: []string{"whoami"}}, auth.ToolFilter{}, slices.DeleteFunc(slices.Clone(kv), func(s string) bool { return s == "whoami" })},
		"a principal's set":                {tools.Offer{}, auth.ToolFilter{Only: []string{"credentials"}}, credentials},
		"a principal's set within another": {tools.Offer{Sets: []string{"kv"}}, auth.ToolFilter{Only: []string{"read"}}, []string{"kv.list", "kv.metadata", "kv.read", "whoami"}},
		"a principal's set of what is off": {tools.Offer{Sets: []string{"kv"}}, auth.ToolFilter{Only: []string{"crypto"}}, []string{"whoami"}},
		"a principal's tools":              {tools.Offer{}, auth.ToolFilter{Only: []string{"kv.read", "transit_sign"}}, []string{"kv.read", "transit.sign"}},
		"a principal's set and a tool":     {tools.Offer{}, auth.ToolFilter{Only: []string{"ssh", "kv.read"}, Except: []string{"ssh.otp"}}, []string{"kv.read", "ssh.sign", "whoami"}},
		"but for a principal's set":        {tools.Offer{Sets: []string{"kv"}}, auth.ToolFilter{Except: []string{"read", "kv.write"}}, []string{"kv.delete", "kv.destroy", "kv.patch", "kv.undelete", "whoami"}},
		"a name of nothing":                {tools.Offer{}, auth.ToolFilter{Only: []string{"nothing"}}, []string{}},
	} {
		r := newRig(t, rigOptions{Options: tools.Options{ReadOnly: row.offer.ReadOnly, Sets: row.offer.Sets, Exclude: row.offer.Exclude}})
		p := with(principal("dev"), func(p *auth.Principal) { p.Tools = row.filter })
		require.Equal(t, row.want, tools.Names(r.runner.Visible(p)), about)
	}
	for entry := range map[string]bool{"": true, "KV": true, "kv.*": true, "kv.read": true, "all": true} {
		_, err := tools.NewCatalog().Off(tools.Offer{Sets: []string{"kv", entry}, Exclude: []string{"nothing"}})
		require.EqualError(t, err, "TOOLSETS: entry 2 is no toolset\nTOOLS_EXCLUDE: entry 1 names no tool and no engine", "%q", entry)
	}
	for _, set := range []string{"kv", "transit", "db", "ssh", "kms", "read", "crypto", "credentials"} {
		require.True(t, tools.IsToolset(set))
		off, err := tools.NewCatalog().Off(tools.Offer{Sets: []string{set}})
		require.NoError(t, err)
		require.NotEmpty(t, off)
	}
}

// A tool that a principal is not given is refused before its arguments are read,
// in the same words whatever else it lacks, and the record says by which rule.
func TestToolsetsComeBeforeArguments(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := with(principal("dev"), func(p *auth.Principal) {
		p.Tools, p.Rule, p.Issuer = auth.ToolFilter{Only: []string{"kv"}}, "some-rule", "https://corp.example"
	})
	none := with(p, func(p *auth.Principal) { p.Scopes = nil })
	for _, who := range []*auth.Principal{p, none} {
		for _, args := range []string{`{"key":"dev","plaintext":""}`, `{"canary":1}`, `{{`} {
			_, f := r.run(who, "transit.encrypt", args)
			require.NotNil(t, f)
			require.Equal(t, fault.New(fault.Forbidden, "this principal is not given this tool"), f)
		}
	}
	records := r.records()
	require.Len(t, records, 6)
	for _, rec := range records {
		require.Equal(t, audit.Outcome, rec.Kind)
		require.Equal(t, "forbidden", rec.Outcome)
		require.Equal(t, []string{"some-rule", "https://corp.example", "dev"}, []string{rec.Rule, rec.Issuer, rec.Subject})
	}
}
