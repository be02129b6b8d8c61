package tools_test

import (
	"encoding/json"
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
