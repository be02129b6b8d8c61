package kmsx_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

func TestMain(m *testing.M) { os.Exit(devstacktest.MainWithoutAWS(m)) }

const (
	region  = devstack.KMSRegion
	account = devstack.KMSAccount
	owner   = "mcp/dev-bot"
)

// localKMS is the address of a real KMS emulator.
func localKMS(t testing.TB) string {
	t.Helper()
	return devstacktest.KMS(t).Endpoint
}

// connect is a client of an endpoint.
func connect(t testing.TB, cfg kmsx.Config) *kmsx.Client {
	t.Helper()
	if cfg.Region == "" {
		cfg.Region = region
	}
	if cfg.AccessKeyID == "" {
		cfg.AccessKeyID, cfg.SecretAccessKey = "AKIDTEST", secret.NewText("test-secret")
	}
	c, err := kmsx.New(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// admin is the SDK's own client of the emulator, for what the product does not do.
func admin(t testing.TB) *kms.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return kms.New(kms.Options{
		Region: region, BaseEndpoint: aws.String(localKMS(t)), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDTEST", "test-secret", ""),
	})
}

// realKey makes a key of a spec in the emulator, and a client that resolves it.
func realKey(t testing.TB, spec, usage string) (*kmsx.Client, kmsx.Key) {
	t.Helper()
	c := connect(t, kmsx.Config{Endpoint: localKMS(t)})
	key, err := c.Resolve(t.Context(), owner, newKey(t, spec, usage))
	require.NoError(t, err)
	return c, key
}

// newKey makes a key in the emulator and returns its id.
func newKey(t testing.TB, spec, usage string) string {
	t.Helper()
	out, err := admin(t).CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpec(spec), KeyUsage: types.KeyUsageType(usage)})
	require.NoError(t, err)
	return *out.KeyMetadata.KeyId
}

// bind is one operation, bound as the runner does it.
func bind(c *kmsx.Client, action kmsx.Action, key kmsx.Key) *kmsx.Bound {
	return c.Bind(kmsx.Operation{Action: action, Key: key}, kmsx.BindOptions{Owner: owner, Subject: "dev-bot", Retryable: true})
}

// fake answers what no emulator can be made to answer on demand: it describes
// any key, and says one thing to everything else.
type fake struct {
	*httptest.Server
	spec, usage string
	describe    http.HandlerFunc // instead, if not nil
	requests    atomic.Int32     // but for DescribeKey
	described   atomic.Int32
	mu          sync.Mutex
	body        map[string]any // of the last request
}

const (
	keyID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	keyARN = "arn:aws:kms:" + region + ":" + account + ":key/" + keyID
	reqID  = "5b8f6f0c-0d3a-4c0d-9f8e-6b1c8e6f0a11"
)

func newFake(t testing.TB, answer http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{spec: "SYMMETRIC_DEFAULT", usage: "ENCRYPT_DECRYPT"}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body := map[string]any{}
		_ = json.Unmarshal(raw, &body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("X-Amzn-Requestid", reqID)
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".DescribeKey") {
			f.described.Add(1)
			if f.describe != nil {
				f.describe(w, r)
				return
			}
			_, _ = fmt.Fprintf(w, `{"KeyMetadata":{"Arn":%q,"KeyId":%q,"KeyUsage":%q,"KeySpec":%q,"KeyState":"Enabled","KeyManager":"CUSTOMER"}}`, keyARN, keyID, f.usage, f.spec)
			return
		}
		f.requests.Add(1)
		f.mu.Lock()
		f.body = body
		f.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// client is a client of the fake, with its key.
func (f *fake) client(t testing.TB) (*kmsx.Client, kmsx.Key) {
	t.Helper()
	c := connect(t, kmsx.Config{Endpoint: f.URL})
	key, err := c.Resolve(t.Context(), owner, keyID)
	require.NoError(t, err)
	return c, key
}

// encrypt makes a call of the fake.
func (f *fake) encrypt(t testing.TB, ctx context.Context) (*kmsx.Bound, error) { //nolint:revive // the order of testing helpers
	t.Helper()
	c, key := f.client(t)
	b := bind(c, kmsx.ActionEncrypt, key)
	_, err := b.Encrypt(ctx, kmsx.EncryptInput{Plaintext: secret.NewText(canary)})
	return b, err
}

func (f *fake) sent() map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body
}

// requireKind asserts an error's kind and returns the error.
func requireKind(t testing.TB, want fault.Kind, err error) *fault.Error {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, want, f.Kind, "%v, because of: %v", err, f.Err)
	return f
}

// requireField asserts that an error is about an argument.
func requireField(t testing.TB, field, msg string, err error) {
	t.Helper()
	f := requireKind(t, fault.Invalid, err)
	require.Equal(t, field, f.Details["field"])
	require.Contains(t, f.Msg, msg)
}
