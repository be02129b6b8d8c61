package main_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

const (
	benchPlaintext = "bench-plaintext-0123456789"
	benchPrefix    = "vault:v1:" // of what the transit engine makes

	directly = "direct "
	oursIs   = "ours "
)

// engineTool is a tool that is measured beside its direct call.
type engineTool struct {
	name   string
	args   string // of the tool
	want   string // what the answer of every call must contain
	direct load
}

// BenchmarkEngines compares, in one run, tools of the other engines over stdio
// with the same operation by the stock client of Vault or AWS, in the way of
// BenchmarkCompare.
func BenchmarkEngines(b *testing.B) {
	v := devstacktest.Fresh(b, devstacktest.Options{})
	keys := devstacktest.KMS(b)
	require.NoError(b, v.Request(b.Context(), http.MethodPost, "sys/mounts/transit", obj{"type": "transit"}, nil))
	for name, kind := range map[string]string{"bench": "aes256-gcm96", "bench--sign": "ecdsa-p256"} {
		require.NoError(b, v.Request(b.Context(), http.MethodPost, "transit/keys/"+name, obj{"type": kind}, nil))
	}
	b.Setenv("VAULT_ADDR", v.Addr)
	b.Setenv("VAULT_TOKEN", v.RootToken.Reveal())
	tools := engineTools(b, keys)
	contenders := engineContenders(b, v, keys, tools)
	reportEngines(b, tools, contenders, measureAll(b, contenders))
}

func engineTools(b *testing.B, keys *devstack.KMS) []engineTool {
	b.Helper()
	vault, err := benchVault()
	require.NoError(b, err)
	text := base64.StdEncoding.EncodeToString([]byte(benchPlaintext))
	return []engineTool{
		{
			"transit.encrypt", `{"key":"bench","plaintext":"` + text + `"}`, benchPrefix,
			directTransit(vault, "transit/encrypt/bench", "ciphertext", map[string]any{"plaintext": text}),
		},
		{
			"transit.sign", `{"key":"bench--sign","input":"` + text + `"}`, benchPrefix,
			directTransit(vault, "transit/sign/bench--sign", "signature", map[string]any{"input": text, "hash_algorithm": "sha2-256"}),
		},
		{
			"kms.encrypt", `{"key_id":"` + devstack.AliasDemo + `","plaintext":"` + text + `"}`, keys.ARN(devstack.AliasDemo),
			directKMS(keys),
		},
	}
}

func directTransit(vault *api.Client, path, member string, body map[string]any) load {
	return func() error {
		s, err := vault.Logical().WriteWithContext(context.Background(), path, body)
		if err != nil {
			return err
		}
		made, _ := s.Data[member].(string)
		return hasText([]byte(made), benchPrefix, nil)
	}
}

// directKMS encrypts with the stock client, which keeps as many connections as
// there are callers.
func directKMS(keys *devstack.KMS) load {
	client := kms.New(kms.Options{
		Region: devstack.KMSRegion, BaseEndpoint: aws.String(keys.Endpoint),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDBENCH", "bench-secret", ""),
		HTTPClient: awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 64
		}),
	})
	return func() error {
		out, err := client.Encrypt(context.Background(), &kms.EncryptInput{
			KeyId: aws.String(devstack.AliasDemo), Plaintext: []byte(benchPlaintext),
		})
		if err == nil && (len(out.CiphertextBlob) == 0 || aws.ToString(out.KeyId) != keys.ARN(devstack.AliasDemo)) {
			err = fmt.Errorf("not encrypted with %s", devstack.AliasDemo)
		}
		return err
	}
}

// engineContenders are, for each tool, its direct call and a server's.
func engineContenders(b *testing.B, v *devstack.Vault, keys *devstack.KMS, tools []engineTool) []contender {
	b.Helper()
	cmd := exec.Command(binary, "stdio")
	cmd.Env = settings(b, v, "VAULT_MCP_API_KEY="+benchKey, "API_KEYS_JSON={\""+benchKey+"\":\"bench\"}",
		"RATE_LIMIT_REQUESTS=1000000", "LOG_LEVEL=info",
		"AWS_KMS_ENABLED=true", "AWS_REGION="+devstack.KMSRegion, "AWS_KMS_ENDPOINT="+keys.Endpoint,
		"AWS_ACCESS_KEY_ID=AKIDBENCH", "AWS_SECRET_ACCESS_KEY=bench-secret", `GRANTS={"kms":["`+devstack.AliasDemo+`"]}`)
	ours := startStdioLoad(b, cmd)
	var all []contender
	for _, t := range tools {
		all = append(all,
			contender{directly + t.name, 0, t.direct},
			contender{oursIs + t.name, cmd.Process.Pid, ours.tool(t.name, t.args, t.want)})
	}
	return all
}

// tool is a load that calls one tool.
func (s *stdioLoad) tool(name, args, want string) load {
	what := `"method":"tools/call","params":{"name":"` + name + `","arguments":` + args + `}`
	return func() error {
		answer, err := s.ask(what)
		return hasText(answer, want, err)
	}
}

func reportEngines(b *testing.B, tools []engineTool, contenders []contender, results map[string]map[int][]sample) {
	b.Helper()
	var out strings.Builder
	writeTable(&out, contenders, results, func(name string) string {
		return directly + strings.TrimPrefix(strings.TrimPrefix(name, oursIs), directly)
	})
	var targets []target
	for _, t := range tools {
		ours, direct := results[oursIs+t.name], results[directly+t.name]
		targets = append(targets,
			target{t.name + ", 16 callers, of direct", ratio(ours[16], direct[16], perSecond), leastStdio, false},
			target{"p50 " + t.name + ", 1 caller, of direct", ratio(ours[1], direct[1], p50), mostP50, true})
	}
	writeTargets(b, &out, targets)
}
