package tools_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/tools"
)

const readAnswer = `{"request_id":"0191f8a0-7a11-7c3c-8ad2-d6f9ed5b1c2f","lease_id":"","renewable":false,"lease_duration":0,` +
	`"data":{"data":{"user":"app","password":"correct horse battery staple"},"metadata":{"created_time":"2026-01-02T03:04:05.678Z",` +
	`"custom_metadata":null,"deletion_time":"","destroyed":false,"version":3}},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv"}`

const encryptAnswer = `{"request_id":"0191f8a0-7a11-7c3c-8ad2-d6f9ed5b1c2f","lease_id":"","renewable":false,"lease_duration":0,` +
	`"data":{"ciphertext":"vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==","key_version":1},` +
	`"wrap_info":null,"warnings":null,"auth":null,"mount_type":"transit"}`

// What a call costs with a Vault that costs next to nothing. Decode and Whoami
// are parts of it: the pipeline without Vault, and the arguments alone.
func BenchmarkRun(b *testing.B) {
	for name, c := range map[string]struct{ tool, args, answer string }{
		"read":    {"kv.read", `{"path":"app/config"}`, readAnswer},
		"encrypt": {"transit.encrypt", `{"key":"dev","plaintext":"Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ=="}`, encryptAnswer},
		"whoami":  {"whoami", `{}`, ""},
	} {
		b.Run(name, func(b *testing.B) {
			vault := newFakeVault(b, answerJSON(c.answer))
			r := newRig(b, rigOptions{addr: vault.URL})
			call := tools.Call{Tool: c.tool, Principal: principal("dev"), Args: json.RawMessage(c.args), Transport: "mcp"}
			b.ReportAllocs()
			for b.Loop() {
				_, err := r.runner.Run(context.Background(), call)
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	read, _ := tools.NewCatalog().Lookup("kv.read")
	b.ReportAllocs()
	for b.Loop() {
		_, err := read.Decode(json.RawMessage(`{"path":"app/config"}`))
		require.NoError(b, err)
	}
}
