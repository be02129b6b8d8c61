package tools_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// fakeKMS describes any key, one whose name ends with sign as one that signs,
// and finds nothing else. It stands in where no emulator can be made to do what
// is wanted, and where requests are counted.
type fakeKMS struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // but for DescribeKey
	lookups  []string // the keys that were described
	describe http.HandlerFunc
}

const (
	fakeKeyID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	fakeKeyARN = "arn:aws:kms:eu-west-2:111122223333:key/" + fakeKeyID
	awsID      = "5b8f6f0c-0d3a-4c0d-9f8e-6b1c8e6f0a11"
)

func newFakeKMS(t testing.TB) *fakeKMS {
	t.Helper()
	f := &fakeKMS{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var body struct{ KeyId string } //nolint:revive // AWS's own name
		_ = json.Unmarshal(raw, &body)
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		w.Header().Set("X-Amzn-Requestid", awsID)
		f.mu.Lock()
		defer f.mu.Unlock()
		if operation != "DescribeKey" {
			f.requests = append(f.requests, operation+" "+body.KeyId)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"NotFoundException","message":"`+canary+`"}`)
			return
		}
		f.lookups = append(f.lookups, body.KeyId)
		if f.describe != nil {
			f.describe(w, r)
			return
		}
		spec, usage := "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"
		if strings.HasSuffix(body.KeyId, "sign") {
			spec, usage = "ECC_NIST_P256", "SIGN_VERIFY"
		}
		_, _ = fmt.Fprintf(w, `{"KeyMetadata":{"Arn":%q,"KeyId":%q,"KeyUsage":%q,"KeySpec":%q,"KeyManager":"CUSTOMER"}}`, fakeKeyARN, fakeKeyID, usage, spec)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeKMS) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func (f *fakeKMS) lookedUp() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lookups)
}

// newKMSKey makes a key with an alias in a real KMS emulator and returns its ARN.
func newKMSKey(t *testing.T, k *devstack.KMS, alias, spec, usage string) string {
	t.Helper()
	var made struct {
		KeyMetadata struct{ Arn, KeyId string } //nolint:revive // AWS's own names
	}
	require.NoError(t, k.Request(t.Context(), "CreateKey", map[string]any{"KeySpec": spec, "KeyUsage": usage}, &made))
	require.NoError(t, k.Request(t.Context(), "CreateAlias", map[string]any{"AliasName": alias, "TargetKeyId": made.KeyMetadata.KeyId}, nil))
	return made.KeyMetadata.Arn
}

func in64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// The tools on a real emulator: what one makes, the other takes, and every
// result is valid by its tool's own schema.
func TestKMSTools(t *testing.T) {
	k := devstacktest.KMS(t)
	v := devstacktest.Shared(t)
	r := newRig(t, rigOptions{addr: v.Addr, token: v.RootToken, kms: k.Endpoint})
	p := principal("dev")
	arn := newKMSKey(t, k, "alias/dev", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
	signing := newKMSKey(t, k, "alias/dev--sign", "ECC_NIST_P256", "SIGN_VERIFY")
	newKMSKey(t, k, "alias/other", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")

	sealed := r.conform(p, "kms.encrypt", `{"key_id":"alias/dev","plaintext":"`+canary+` ü","encoding":"utf8","encryption_context":{"app":"web"}}`)
	require.Equal(t, arn, sealed["key_id"])
	open := func(more string) string {
		return fmt.Sprintf(`{"key_id":"alias/dev","ciphertext":%q%s}`, sealed["ciphertext"], more)
	}
	require.Equal(t, canary+" ü", r.conform(p, "kms.decrypt", open(`,"encoding":"utf8","encryption_context":{"app":"web"}`))["plaintext"])
	require.Equal(t, in64(canary+" ü"), r.conform(p, "kms.decrypt", open(`,"encryption_context":{"app":"web"}`))["plaintext"])
	_, f := r.run(p, "kms.decrypt", open(`,"encryption_context":{"app":"Web"}`))
	require.Equal(t, fault.Invalid, f.Kind)
	require.Equal(t, "/ciphertext", f.Details["field"])

	wrapped := r.conform(p, "kms.decrypt", open(`,"encryption_context":{"app":"web"},"wrap_ttl":"60s"`))
	require.NotContains(t, wrapped, "plaintext")
	require.Equal(t, arn, wrapped["key_id"])
	var inside struct{ Data map[string]any }
	require.NoError(t, v.Request(t.Context(), "POST", "sys/wrapping/unwrap", map[string]any{"token": wrapped["wrap"].(map[string]any)["token"]}, &inside))
	require.Equal(t, map[string]any{"plaintext": in64(canary + " ü")}, inside.Data)

	shown := r.conform(p, "kms.generate_data_key", `{"key_id":"alias/dev","key_spec":"AES_128"}`)
	raw, err := base64.StdEncoding.DecodeString(shown["plaintext"].(string))
	require.NoError(t, err)
	require.Len(t, raw, 16)
	require.Equal(t, shown["plaintext"], r.conform(p, "kms.decrypt", fmt.Sprintf(`{"key_id":"alias/dev","ciphertext":%q}`, shown["ciphertext"]))["plaintext"])
	hidden := r.conform(p, "kms.generate_data_key", `{"key_id":"alias/dev","without_plaintext":true}`)
	require.NotContains(t, hidden, "plaintext")
	require.NotEmpty(t, hidden["ciphertext"])
	require.NotContains(t, r.conform(p, "kms.generate_data_key", `{"key_id":"alias/dev","number_of_bytes":7,"wrap_ttl":"60s"}`), "plaintext")

	var out struct{ PublicKey []byte }
	require.NoError(t, k.Request(t.Context(), "GetPublicKey", map[string]any{"KeyId": signing}, &out))
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte("a plan"))
	for kind, message := range map[string]string{"RAW": in64("a plan"), "DIGEST": in64(string(sum[:]))} {
		args := fmt.Sprintf(`{"key_id":"alias/dev--sign","signing_algorithm":"ECDSA_SHA_256","message_type":%q,"message":%q`, kind, message)
		signed := r.conform(p, "kms.sign", args+"}")
		signature, err := base64.StdEncoding.DecodeString(signed["signature"].(string))
		require.NoError(t, err)
		require.True(t, ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), sum[:], signature))
		require.Equal(t, []any{signing, "ECDSA_SHA_256", kind}, []any{signed["key_id"], signed["signing_algorithm"], signed["message_type"]})
		require.Equal(t, true, r.conform(p, "kms.verify", fmt.Sprintf(`%s,"signature":%q}`, args, signed["signature"]))["valid"])
		signature[len(signature)-1] ^= 1
		require.Equal(t, false, r.conform(p, "kms.verify", fmt.Sprintf(`%s,"signature":%q}`, args, in64(string(signature))))["valid"])
	}
	_, f = r.run(p, "kms.encrypt", `{"key_id":"alias/other","plaintext":"YQ=="}`)
	require.Equal(t, fault.Forbidden, f.Kind)
	require.NotContains(t, r.everywhere(), canary)
}

// Whose grants match nothing never makes AWS be asked; who names a key that it
// was not granted by that name does not learn whether there is one.
func TestKMSGrants(t *testing.T) {
	const args = `{"plaintext":"YQ==","key_id":%q}`
	const aliasARN = "arn:aws:kms:eu-west-2:111122223333:alias/dev"
	for _, c := range []struct {
		grants  []string
		key     string
		granted bool
		lookups int
	}{
		{nil, "alias/dev", false, 0},
		{[]string{"alias/dev"}, "alias/dev", true, 1},
		{[]string{"alias/dev"}, aliasARN, true, 1},
		{[]string{"alias/dev"}, "alias/dev2", false, 0},
		{[]string{"alias/dev"}, fakeKeyID, false, 0},
		{[]string{"alias/dev"}, fakeKeyARN, false, 0},
		{[]string{"alias/dev--*"}, "alias/dev--x", true, 1},
		{[]string{"alias/dev--*"}, "alias/dev", false, 0},
		{[]string{fakeKeyARN}, "alias/dev", true, 1},
		{[]string{fakeKeyARN}, fakeKeyID, true, 1},
		{[]string{fakeKeyARN}, fakeKeyARN, true, 1},
		{[]string{fakeKeyID}, "alias/dev", true, 1},
		{[]string{"arn:aws:kms:eu-west-2:111122223333:key/00000000-0000-0000-0000-000000000000"}, "alias/dev", false, 1},
		{[]string{"arn:aws:kms:eu-west-2:111122223333:key/00000000-0000-0000-0000-000000000000"}, fakeKeyARN, false, 0},
		{[]string{"*"}, "alias/anything", true, 1},
	} {
		keys := newFakeKMS(t)
		r := newRig(t, rigOptions{kms: keys.URL})
		p := with(principal("dev"), func(p *auth.Principal) { p.Grants = auth.Grants{"kms": c.grants} })
		_, f := r.run(p, "kms.encrypt", fmt.Sprintf(args, c.key))
		require.Len(t, keys.lookedUp(), c.lookups, "%s with %v", c.key, c.grants)
		if !c.granted {
			require.Equal(t, fault.Forbidden, f.Kind, "%s with %v", c.key, c.grants)
			require.Equal(t, "/key_id", f.Details["field"])
			require.Empty(t, keys.seen())
			require.Equal(t, []string{"outcome forbidden"}, kinds(r.records()))
			continue
		}
		require.Equal(t, []string{"Encrypt " + fakeKeyARN}, keys.seen(), "%s with %v", c.key, c.grants)
		records := r.records()
		require.Equal(t, []string{"attempt", "outcome not_found"}, kinds(records))
		require.Equal(t, []string{"kms:Encrypt " + fakeKeyARN}, records[0].Needs)
		require.Equal(t, awsID, records[1].AWSRequestID)
		require.NotContains(t, r.everywhere(), canary)
	}

	absent := func(grants ...string) *fault.Error {
		keys := newFakeKMS(t)
		keys.describe = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"NotFoundException"}`)
		}
		r := newRig(t, rigOptions{kms: keys.URL})
		_, f := r.run(with(principal("dev"), func(p *auth.Principal) { p.Grants = auth.Grants{"kms": grants} }), "kms.encrypt", fmt.Sprintf(args, "alias/dev"))
		require.Equal(t, "kms:Encrypt alias/dev", r.records()[0].Needs[0])
		return f
	}
	require.Equal(t, fault.Forbidden, absent(fakeKeyARN).Kind)
	require.Equal(t, fault.NotFound, absent("alias/dev").Kind)
}

// Where no key is named it is the configured one, under the same grants.
func TestKMSNeedsAKey(t *testing.T) {
	r := newRig(t, rigOptions{kms: newFakeKMS(t).URL})
	_, f := r.run(principal("dev"), "kms.encrypt", `{"plaintext":"YQ=="}`)
	require.Equal(t, fault.Invalid, f.Kind)
	require.Contains(t, f.Msg, "no default key")
}

// Without AWS KMS its tools are not shown, and refused when called.
func TestKMSIsOff(t *testing.T) {
	r := newRig(t, rigOptions{noKMS: true})
	for _, name := range tools.Names(r.runner.Visible(principal("dev"))) {
		require.NotContains(t, name, "kms.")
	}
	for tool, args := range arguments {
		if !strings.HasPrefix(tool, "kms.") {
			continue
		}
		_, f := r.run(principal("dev"), tool, args)
		require.Equal(t, fault.Unavailable, f.Kind)
		require.Equal(t, "AWS KMS is not enabled on this server", f.Msg)
	}
}

// Finding the key is part of the call: it ends with the call's deadline and with
// its caller, before anything is recorded as attempted.
func TestKMSResolvingIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		timeout time.Duration
		leave   bool
		want    fault.Kind
	}{"deadline": {100 * time.Millisecond, false, fault.Timeout}, "caller": {10 * time.Second, true, fault.Canceled}} {
		t.Run(name, func(t *testing.T) {
			keys := newFakeKMS(t)
			keys.describe = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
			r := newRig(t, rigOptions{kms: keys.URL, Options: tools.Options{CallTimeout: c.timeout}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.leave {
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			start := time.Now()
			_, f := r.callContext(t, ctx, tools.Call{Tool: "kms.encrypt", Principal: principal("dev"), Args: json.RawMessage(`{"plaintext":"YQ==","key_id":"alias/dev"}`)})
			require.Equal(t, c.want, f.Kind)
			require.Less(t, time.Since(start), 5*time.Second)
			require.Equal(t, []string{"outcome " + string(c.want)}, kinds(r.records()))
		})
	}
}

func TestKMSBadArguments(t *testing.T) {
	keys := newFakeKMS(t)
	r := newRig(t, rigOptions{kms: keys.URL})
	big := in64(strings.Repeat("a", 4097))
	for _, c := range []struct{ tool, args, field, msg string }{
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"` + big + `"}`, "/plaintext", "4096 bytes"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":""}`, "/plaintext", "at least 1"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"YQ"}`, "/plaintext", "base64"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"Y Q=="}`, "/plaintext", "base64"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"YQ==\n"}`, "/plaintext", "base64"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"-_-_"}`, "/plaintext", "base64"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"YQ==","encryption_context":{"aws:x":"y"}}`, "/encryption_context", "aws:"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"YQ==","encryption_context":{"mcp-subject":"y"}}`, "/encryption_context", "server's own"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"YQ==","encryption_context":{"x":7}}`, "/encryption_context", "type string"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"YQ==","encryption_context":{"x":"` + strings.Repeat("y", 8192) + `"}}`, "/encryption_context", "8192 bytes"},
		{"kms.encrypt", `{"key_id":"alias/aws/s3","plaintext":"YQ=="}`, "/key_id", "AWS manages"},
		{"kms.encrypt", `{"key_id":"../creds/admin","plaintext":"YQ=="}`, "/key_id", "must be a key id"},
		{"kms.encrypt", `{"key_id":"","plaintext":"YQ=="}`, "/key_id", "must be a key id"},
		{"kms.encrypt", `{"key_id":"alias/dev","plaintext":"YQ==","grant_tokens":["a b"]}`, "/grant_tokens/0", "without blanks"},
		{"kms.decrypt", `{"key_id":"alias/dev","ciphertext":"%%"}`, "/ciphertext", "base64"},
		{"kms.generate_data_key", `{"key_id":"alias/dev","key_spec":"AES_256","number_of_bytes":32}`, "/number_of_bytes", "left out"},
		{"kms.generate_data_key", `{"key_id":"alias/dev","number_of_bytes":1025}`, "/number_of_bytes", "at most 1024"},
		{"kms.generate_data_key", `{"key_id":"alias/dev","without_plaintext":true,"wrap_ttl":"60s"}`, "/wrap_ttl", "nothing to wrap"},
		{"kms.sign", `{"key_id":"alias/dev--sign","signing_algorithm":"ECDSA_SHA_256","message":"YQ==","message_type":"DIGEST"}`, "/message", "32 bytes"},
		{"kms.sign", `{"key_id":"alias/dev--sign","signing_algorithm":"ECDSA_SHA_256","message":"` + big + `"}`, "/message", "4096 bytes"},
		{"kms.sign", `{"key_id":"alias/dev--sign","signing_algorithm":"MD5","message":"YQ=="}`, "/signing_algorithm", "one of"},
		{"kms.sign", `{"key_id":"alias/dev","signing_algorithm":"ECDSA_SHA_256","message":"YQ=="}`, "/key_id", "for sign and verify"},
		{"kms.verify", `{"key_id":"alias/dev--sign","signing_algorithm":"ECDSA_SHA_256","message":"YQ==","signature":"?"}`, "/signature", "base64"},
		{"kms.verify", `{"key_id":"alias/dev--sign","signing_algorithm":"ECDSA_SHA_256","message":"?","signature":"YQ=="}`, "/message", "base64"},
	} {
		_, f := r.run(principal("dev"), c.tool, c.args)
		require.NotNil(t, f, c.args)
		require.Equal(t, fault.Invalid, f.Kind, c.args)
		require.Equal(t, c.field, f.Details["field"], c.args)
		require.Contains(t, f.Msg, c.msg, c.args)
	}
	require.Empty(t, keys.seen())
}

// Where ciphertexts are bound to their principals, another with the same grants
// cannot decrypt them; the same principal can, by any of its credentials.
func TestKMSCiphertextsOfAnother(t *testing.T) {
	k := devstacktest.KMS(t)
	r := newRig(t, rigOptions{kms: k.Endpoint})
	newKMSKey(t, k, "alias/shared", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
	who := func(slug string) *auth.Principal {
		return with(principal(slug), func(p *auth.Principal) { p.Grants, p.BindCiphertexts = auth.Grants{"kms": {"alias/shared"}}, true })
	}
	sealed := r.conform(who("dev"), "kms.encrypt", `{"key_id":"alias/shared","plaintext":"YQ=="}`)
	args := fmt.Sprintf(`{"key_id":"alias/shared","ciphertext":%q}`, sealed["ciphertext"])
	require.Equal(t, "YQ==", r.conform(with(who("dev"), func(p *auth.Principal) { p.CredentialID = "another" }), "kms.decrypt", args)["plaintext"])
	for _, p := range []*auth.Principal{who("other"), with(who("dev"), func(p *auth.Principal) { p.BindCiphertexts = false }), with(who("dev"), func(p *auth.Principal) { p.Issuer = "https://other.example" })} {
		_, f := r.run(p, "kms.decrypt", args)
		require.NotNil(t, f)
		require.Equal(t, fault.Invalid, f.Kind)
		require.Equal(t, "/ciphertext", f.Details["field"])
	}
}
