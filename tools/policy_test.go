package tools_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

var rigMounts = vaultx.Mounts{KV: "secret", Transit: "transit", Database: "database", SSH: "ssh"}

// policyBlocks are the blocks of a policy by path.
func policyBlocks(t *testing.T, hcl string) map[string]string {
	t.Helper()
	blocks := map[string]string{}
	path := regexp.MustCompile(`(?m)^path "([^"\\]+)" \{$`)
	for _, block := range strings.Split(strings.TrimSuffix(hcl, "\n"), "\n\n") {
		found := path.FindAllStringSubmatch(block, -1)
		require.Len(t, found, 1, "%s", block)
		require.NotContains(t, blocks, found[0][1], "a path twice")
		blocks[found[0][1]] = block
	}
	return blocks
}

func TestPolicyHCL(t *testing.T) {
	p := principal("dev")
	p.Grants = auth.Grants{"database": {"readonly", "dev--*", "readonly"}, "ssh": {"*"}}
	hcl := tools.PolicyHCL(tools.NewCatalog(), vaultx.Mounts{KV: "team/kv", Transit: "transit", Database: "db", SSH: "ssh"}, p)
	blocks := policyBlocks(t, hcl)
	for path, want := range map[string]string{
		"team/kv/data/mcp/dev/*":     "# kv.read, kv.write, kv.patch, kv.delete\npath \"team/kv/data/mcp/dev/*\" {\n  capabilities = [\"create\", \"delete\", \"patch\", \"read\", \"update\"]\n}",
		"team/kv/metadata/mcp/dev/*": "# kv.list, kv.metadata\npath \"team/kv/metadata/mcp/dev/*\" {\n  capabilities = [\"list\", \"read\"]\n}",
		"db/creds/readonly":          "# db.issue_creds\npath \"db/creds/readonly\" {\n  capabilities = [\"read\"]\n}",
		"db/creds/dev--*":            "# db.issue_creds\npath \"db/creds/dev--*\" {\n  capabilities = [\"read\"]\n}",
		"sys/leases/renew":           "# db.renew\npath \"sys/leases/renew\" {\n  capabilities = [\"update\"]\n}",
		"sys/leases/revoke":          "# db.revoke\npath \"sys/leases/revoke\" {\n  capabilities = [\"update\"]\n}",
	} {
		require.Equal(t, want, blocks[path], path)
	}
	require.Regexp(t, `^# kv\.read, .*db\.issue_creds`, blocks["sys/wrapping/wrap"])
	for range 5 {
		require.Equal(t, hcl, tools.PolicyHCL(tools.NewCatalog(), vaultx.Mounts{KV: "team/kv", Transit: "transit", Database: "db", SSH: "ssh"}, p))
	}
}

// A grant that no name fits stands in no policy, whatever it might mean there;
// without a grant there is no path, and no more than a prefix in any.
func TestPolicyHoldsNamesAlone(t *testing.T) {
	p := principal("dev")
	p.Grants = auth.Grants{"database": {`a"] } path "sys/*" {capabilities=["sudo"`, "a/b", "a/*", "+", "+*", "..", "../x*", "a b", "{{identity.entity.id}}*", "a*b", "", strings.Repeat("a", 200)}}
	for path := range policyBlocks(t, tools.PolicyHCL(tools.NewCatalog(), rigMounts, p)) {
		require.NotContains(t, path, "creds", "the grants stand for nothing")
		require.Regexp(t, `^(secret/[a-z]+/mcp/dev/\*|transit/random|sys/wrapping/wrap)$`, path)
	}
	p.Grants["database"] = append(p.Grants["database"], ".", ".*", "..*", "*")
	var creds []string
	for path := range policyBlocks(t, tools.PolicyHCL(tools.NewCatalog(), rigMounts, p)) {
		if strings.Contains(path, "creds") {
			creds = append(creds, path)
		}
	}
	require.ElementsMatch(t, []string{"database/creds/*", "database/creds/.*", "database/creds/..*"}, creds)
}

// What IAM would enforce, no emulator does here, so golden files hold it.
func TestPolicyIAMGolden(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for name, grants := range map[string][]string{
		"own": {"alias/dev", "alias/dev--*"}, "all": {"*"}, "none": nil,
		"keys": {arn, "1234abcd-12ab-34cd-56ef-1234567890ab", "alias/dev", "alias/dev", "1234*", "mrk-*", "arn:aws:kms:eu-west-1:111122223333:key/*"},
		"unfit": {
			"alias/aws/s3", "alias/a*b", `alias/x","Resource":"*`, "arn:aws:kms:eu-west-1:111122223333:alias/dev", "arn:aws:kms:eu-west-1:111122223333:alias/*", "arn:*", "arn:aws:kms:*", "xyz*", `12"*`, "arn:aws:s3:::bucket", "alias/${aws:username}",
		},
	} {
		p := principal("dev")
		p.Grants = auth.Grants{"kms": grants}
		got, err := tools.PolicyIAM(tools.NewCatalog().Tools(), p)
		require.NoError(t, err)
		require.True(t, json.Valid([]byte(got)))
		path := filepath.Join("..", "testdata", "golden", "iam", name+".json")
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), got, "run make gen and look at the difference")
	}
}

// What a principal's rule takes away from it stands in no policy of it; and where
// rules give its credentials other tools and prefixes, none lends another any.
func TestPolicyLeavesOutWhatRulesTakeAway(t *testing.T) {
	all := tools.NewCatalog().Tools()
	grants := auth.Grants{"database": {"readonly"}, "ssh": {"web"}, "transit": {"orders"}, "kms": {"alias/dev"}}
	for _, filter := range []auth.ToolFilter{
		{},
		{Only: []string{"kv.read", "kms_sign"}},
		{Only: []string{"crypto"}},
		{Except: []string{"credentials", "kv.delete"}},
		{Only: []string{"read"}, Except: []string{"kms"}},
		{Only: []string{"whoami"}},
		{Except: []string{"kv", "transit", "db", "ssh", "kms"}},
	} {
		p := principal("dev")
		p.Grants, p.Tools = grants, filter
		access, err := tools.NewAccess(tools.NewCatalog(), tools.Offer{}, true)
		require.NoError(t, err)
		left, whole := map[string]bool{}, principal("dev")
		whole.Grants = grants
		for _, tool := range all {
			left[tool.Name] = access.Permit(tool, p) == nil
		}
		var want []tools.Permission
		for _, permission := range tools.Permissions(all, rigMounts, whole) {
			if left[permission.Tool] {
				want = append(want, permission)
			}
		}
		require.Equal(t, want, tools.Permissions(all, rigMounts, p), "%v", filter)
		iam, err := tools.PolicyIAM(all, p)
		require.NoError(t, err)
		require.Equal(t, left["kms.sign"], strings.Contains(iam, "kms:Sign"), "%v", filter)
		require.Equal(t, left["kms.decrypt"], strings.Contains(iam, "kms:Decrypt"), "%v", filter)
	}

	a, b := principal("dev"), principal("dev")
	a.Grants, a.Tools = auth.Grants{"transit": {"one"}, "kms": {"alias/one"}}, auth.ToolFilter{Only: []string{"transit.sign", "kms.sign"}}
	b.Grants, b.Tools = auth.Grants{"transit": {"two"}, "kms": {"alias/two"}}, auth.ToolFilter{Only: []string{"transit.encrypt", "kms.encrypt"}}
	hcl := tools.NewPolicy(all, rigMounts, a, b).HCL()
	var paths []string
	for path := range policyBlocks(t, hcl) {
		paths = append(paths, path)
	}
	require.ElementsMatch(t, []string{"transit/sign/one", "transit/encrypt/two"}, paths)
	iam, err := tools.PolicyIAM(all, a, b)
	require.NoError(t, err)
	var policy struct {
		Statement []struct {
			Sid       string
			Action    []string
			Condition map[string]map[string][]string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(iam), &policy))
	require.Len(t, policy.Statement, 2)
	for i, want := range []struct{ sid, action, alias string }{{"VaultMcpAliases", "kms:Sign", "alias/one"}, {"VaultMcpAliases2", "kms:Encrypt", "alias/two"}} {
		require.Equal(t, want.sid, policy.Statement[i].Sid)
		require.Contains(t, policy.Statement[i].Action, want.action)
		require.Equal(t, []string{want.alias}, policy.Statement[i].Condition["ForAnyValue:StringLike"]["kms:ResourceAliases"])
	}
	require.NotContains(t, policy.Statement[0].Action, "kms:Encrypt")
	require.NotContains(t, policy.Statement[1].Action, "kms:Sign")
}

// Each principal has one name of a policy, whatever its issuer is called, and
// Vault takes the longest.
func TestPolicyNamesAreApart(t *testing.T) {
	prefix, names := strings.Repeat("p", 64), map[string]bool{}
	hosts := []string{"a.example", "A.example", "a.example.", "x.a.example", strings.Repeat("b", 40), strings.Repeat("b", 41), strings.Repeat("c.", 120) + "example", "[::1]"}
	subjects := []string{"a", "A", "a.example", "a-b", "a--b", strings.Repeat("d", 128), "e" + strings.Repeat("-", 3)}
	issuers := []string{""}
	var rules []string
	for i, host := range hosts {
		for _, path := range []string{"", "/"} {
			issuers = append(issuers, "https://"+host+path)
			rules = append(rules, fmt.Sprintf(`{"issuer": "https://%s%s", "prefix": "of/i%d%s/{slug}"}`, host, path, i, strings.ReplaceAll(path, "/", "x")))
		}
	}
	authn, err := auth.New(auth.Options{Prefix: "mcp", Rules: "[" + strings.Join(rules, ",") + "]"})
	require.NoError(t, err)
	for _, issuer := range issuers {
		for _, subject := range subjects {
			ps, err := authn.PrincipalsOf(auth.Identity{Subject: subject, Issuer: issuer, Method: auth.MethodJWT})
			require.NoError(t, err, "%q of %q", subject, issuer)
			require.Len(t, ps, 1)
			name := ps[0].Policy(prefix)
			require.NoError(t, vaultx.CheckPolicyName(name), "%q of %q", subject, issuer)
			require.False(t, names[name], name)
			names[name] = true
			if issuer == "" {
				require.Equal(t, prefix+ps[0].Slug, name)
			}
		}
	}
}
