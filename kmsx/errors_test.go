package kmsx_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/fault/faulttest"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

// canary stands in all that is sent and said, and must stand in no error.
const canary = "CANARY-arn:aws:iam::111122223333:role/x"

// says is an exception of AWS's.
func says(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"__type":"com.amazonaws.kms#%s","message":%q,"Message":%q}`, code, canary, canary)
	}
}

func requireSilent(t testing.TB, err error, url string) {
	t.Helper()
	said := faulttest.Text(err)
	require.NotContains(t, said, "CANARY")
	require.NotContains(t, said, account)
	require.NotContains(t, said, strings.TrimPrefix(url, "http://"))
}

func TestExceptions(t *testing.T) {
	const once, thrice = 1, 3
	for _, c := range []struct {
		status int
		code   string
		kind   fault.Kind
		msg    string // a part of the message
		tries  int32
	}{
		{400, "ThrottlingException", fault.RateLimited, "own limit", thrice},
		{400, "LimitExceededException", fault.RateLimited, "own limit", thrice},
		{400, "RequestLimitExceeded", fault.RateLimited, "own limit", thrice},
		{429, "TooManyRequestsException", fault.RateLimited, "own limit", thrice},
		{400, "DisabledException", fault.Conflict, "disabled", once},
		{400, "KMSInvalidStateException", fault.Conflict, "state", once},
		{400, "NotFoundException", fault.NotFound, "no such key", once},
		{400, "AccessDeniedException", fault.Forbidden, "do not allow the server", once},
		{400, "InvalidKeyUsageException", fault.Invalid, "/key_id", once},
		{400, "InvalidArnException", fault.Invalid, "/key_id", once},
		{400, "InvalidCiphertextException", fault.Invalid, "/ciphertext", once},
		{400, "IncorrectKeyException", fault.Invalid, "/ciphertext: was made with another key", once},
		{400, "InvalidGrantTokenException", fault.Invalid, "/grant_tokens", once},
		{400, "ValidationException", fault.Invalid, "refused", once},
		{500, "KeyUnavailableException", fault.Unavailable, "the key is not available", thrice},
		{503, "DependencyTimeoutException", fault.Unavailable, "the key is not available", thrice},
		{500, "KMSInternalException", fault.Unavailable, "could not do this now", thrice},
		{400, "ExpiredTokenException", fault.Unavailable, "own AWS credentials", once},
		{400, "UnrecognizedClientException", fault.Unavailable, "own AWS credentials", once},
		{403, "InvalidSignatureException", fault.Unavailable, "own AWS credentials", once},
		{400, "MissingAuthenticationTokenException", fault.Unavailable, "own AWS credentials", once},
		{400, "NobodyKnowsThisException", fault.Unavailable, "could not do this now", once},
		{400, canary, fault.Unavailable, "could not do this now", once},
		{502, "", fault.Unavailable, "could not do this now", thrice},
		{307, "", fault.Unavailable, "redirect", once},
		{302, "KMSInternalException", fault.Unavailable, "redirect", once},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.code), func(t *testing.T) {
			t.Parallel()
			f := newFake(t, says(c.status, c.code))
			b, err := f.encrypt(t, t.Context())
			got := requireKind(t, c.kind, err)
			require.Contains(t, got.Msg, c.msg)
			require.Equal(t, c.kind == fault.RateLimited, got.RetryAfter > 0)
			require.Equal(t, c.tries, f.requests.Load())
			require.Equal(t, []string{reqID}, b.RequestIDs())
			require.Error(t, got.Err, "no cause for the log")
			if c.code != canary && c.code != "" && c.status >= 400 {
				require.Equal(t, c.code, got.Err.Error())
			}
			requireSilent(t, err, f.URL)
		})
	}
}

// What AWS cannot be reached by, or answers, in other ways.
func TestBrokenAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		msg    string
	}{
		"not JSON":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>"+canary) }, "cannot be read"},
		"half":            {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"KeyId":"`+canary) }, "cannot be read"},
		"nothing":         {func(http.ResponseWriter, *http.Request) {}, "cannot be read"},
		"an empty object": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }, "cannot be read"},
		"another key's": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"CiphertextBlob":"YQ==","KeyId":"`+canary+`"}`)
		}, "cannot be read"},
		"an error in HTML": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "<html>"+canary)
		}, ""},
		"a connection's end": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached"},
		"too large":          {huge, "larger"},
		"too large an error": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadRequest); huge(w, r) }, "larger"},
		"redirect with a URL": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/"+canary, http.StatusTemporaryRedirect)
		}, "redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, c.answer)
			_, err := f.encrypt(t, t.Context())
			got := requireKind(t, fault.Unavailable, err)
			require.Contains(t, got.Msg, c.msg)
			requireSilent(t, err, f.URL)
		})
	}
}

// huge is an answer of 100 MiB.
func huge(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"CiphertextBlob":"`)
	block := []byte(strings.Repeat("A", 1<<20))
	for range 100 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func TestHugeAnswerCostsNoMoreThanTheBound(t *testing.T) {
	f := newFake(t, huge)
	c, key := f.client(t)
	b := bind(c, kmsx.ActionEncrypt, key)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := b.Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
	runtime.ReadMemStats(&after)
	requireKind(t, fault.Unavailable, err)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "it read on past the bound")
}

// A hundred tries against a slow AWS end with the deadline or the caller.
func TestSlow(t *testing.T) {
	f := newFake(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := f.encrypt(t, ctx)
	requireKind(t, fault.Timeout, err)
	requireSilent(t, err, f.URL)

	ctx, leave := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, leave)
	_, err = f.encrypt(t, ctx)
	requireKind(t, fault.Canceled, err)
}

// Throttling that outlasts the deadline ends with it.
func TestDeadlineBoundsRetries(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		says(400, "ThrottlingException")(w, r)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	start := time.Now()
	_, err := f.encrypt(t, ctx)
	require.Error(t, err)
	require.Less(t, time.Since(start), 5*time.Second)
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	url := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	c := connect(t, kmsx.Config{Endpoint: url})
	_, err = c.Resolve(t.Context(), owner, keyID)
	require.Equal(t, "AWS KMS cannot be reached", requireKind(t, fault.Unavailable, err).Msg)
	requireSilent(t, err, url)
}

// Without credentials anywhere, calls say so, and not what the chain tried.
func TestNoCredentials(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	f := newFake(t, func(http.ResponseWriter, *http.Request) { t.Error("AWS was asked") })
	c, err := kmsx.New(t.Context(), kmsx.Config{Region: region, Endpoint: f.URL})
	require.NoError(t, err, "credentials are asked for when they are first used")
	t.Cleanup(c.Close)
	_, err = c.Resolve(t.Context(), owner, keyID)
	require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "own AWS credentials")
	requireSilent(t, err, f.URL)
	require.Zero(t, f.described.Load())
}

// The SDK's own chain: environment, then profile. Its endpoint settings have no
// say.
func TestChain(t *testing.T) {
	var signed []string
	f := newFake(t, nil)
	f.describe = func(w http.ResponseWriter, r *http.Request) {
		signed = append(signed, r.Header.Get("Authorization"))
		says(400, "NotFoundException")(w, r)
	}
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "true")
	t.Setenv("AWS_DEFAULTS_MODE", "auto")
	t.Setenv("HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "credentials")
	require.NoError(t, os.WriteFile(file, []byte("[team]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\nregion = eu-south-1\n"), 0o600))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_PROFILE", "team")
	ask := func() {
		c, err := kmsx.New(t.Context(), kmsx.Config{Endpoint: f.URL})
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Resolve(t.Context(), owner, keyID)
		requireKind(t, fault.NotFound, err)
	}
	ask()
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_REGION", "us-west-2")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	ask()
	require.Len(t, signed, 2)
	require.Contains(t, signed[0], "Credential=AKIDPROFILE/")
	require.Contains(t, signed[0], "/eu-south-1/kms/")
	require.Contains(t, signed[1], "Credential=AKIDENV/")
	require.Contains(t, signed[1], "/us-west-2/kms/")
}

// One principal whose calls hang has no more than its share, and the others are
// served.
func TestBulkhead(t *testing.T) {
	release, hanging := make(chan struct{}), make(chan struct{}, 16)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Encrypt") {
			hanging <- struct{}{}
			<-release
		}
		says(400, "InvalidCiphertextException")(w, r)
	})
	c := connect(t, kmsx.Config{Endpoint: f.URL, MaxConcurrent: 8})
	key, err := c.Resolve(t.Context(), owner, keyID)
	require.NoError(t, err)
	slow := func() error {
		_, err := c.Bind(kmsx.Operation{Action: kmsx.ActionEncrypt, Key: key}, kmsx.BindOptions{Owner: "slow"}).
			Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
		return err
	}
	results := make(chan error, 4)
	for range 4 {
		go func() { results <- slow() }()
	}
	for range 4 {
		<-hanging
	}
	require.Positive(t, requireKind(t, fault.RateLimited, slow()).RetryAfter)
	for range 20 {
		_, err := c.Bind(kmsx.Operation{Action: kmsx.ActionDecrypt, Key: key}, kmsx.BindOptions{Owner: "quick"}).
			Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: []byte("x")})
		requireKind(t, fault.Invalid, err)
	}
	close(release)
	for range 4 {
		requireKind(t, fault.Invalid, <-results)
	}
}
