package kmsx_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

// While a call pauses between two tries, its place is free for others, also of the
// same principal: were it not, none of them could reach AWS before the call ends.
func TestNoPlaceIsHeldBetweenTries(t *testing.T) {
	failed := make(chan struct{}, 100)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Encrypt") {
			says(500, "KMSInternalException")(w, r)
			failed <- struct{}{}
			return
		}
		says(400, "InvalidCiphertextException")(w, r)
	})
	c := connect(t, kmsx.Config{Endpoint: f.URL, MaxConcurrent: 1})
	key, err := c.Resolve(t.Context(), owner, keyID)
	require.NoError(t, err)
	for range 20 { // the pauses are of any length, and the next try may be under way already
		ended := make(chan error, 1)
		go func() {
			_, err := bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
			ended <- err
		}()
		<-failed
		between := false
		for len(ended) == 0 && !between {
			_, err := bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: []byte("x")})
			between = len(ended) == 0 && fault.KindOf(err) == fault.Invalid
		}
		require.Contains(t, []fault.Kind{fault.Unavailable, fault.RateLimited}, fault.KindOf(<-ended))
		if between {
			return
		}
		for len(failed) > 0 {
			<-failed
		}
	}
	require.Fail(t, "the place is held between tries")
}

// A request for which there is no room is refused at once and not tried again, and
// every place is given back, whatever became of its request.
func TestPlacesAreGivenBack(t *testing.T) {
	release, hanging := make(chan struct{}), make(chan struct{}, 1)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Encrypt"):
			hanging <- struct{}{}
			<-release
			says(500, "KMSInternalException")(w, r)
		case strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Decrypt"):
			panic(http.ErrAbortHandler) // the connection breaks
		default:
			_, _ = w.Write([]byte(`{"half":`))
		}
	})
	c := connect(t, kmsx.Config{Endpoint: f.URL, MaxConcurrent: 1})
	key, err := c.Resolve(t.Context(), owner, keyID)
	require.NoError(t, err)
	do := func(action kmsx.Action) *fault.Error {
		b := c.Bind(kmsx.Operation{Action: action, Key: key}, kmsx.BindOptions{Owner: owner})
		var err error
		switch action {
		case kmsx.ActionEncrypt:
			_, err = b.Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
		case kmsx.ActionDecrypt:
			_, err = b.Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: []byte("x")})
		default:
			_, err = b.GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
		}
		return fault.From(err)
	}
	slow := make(chan *fault.Error, 1)
	go func() { slow <- do(kmsx.ActionEncrypt) }()
	<-hanging
	before := f.requests.Load()
	held := do(kmsx.ActionDecrypt)
	require.Equal(t, fault.RateLimited, held.Kind)
	require.Equal(t, time.Second, held.RetryAfter)
	require.Contains(t, held.Msg, "of this principal are under way")
	require.Equal(t, before, f.requests.Load(), "it did not reach AWS")
	close(release)
	require.Equal(t, fault.Unavailable, (<-slow).Kind)
	for range 10 {
		require.Equal(t, fault.Unavailable, do(kmsx.ActionDecrypt).Kind)
		require.Equal(t, fault.Unavailable, do(kmsx.ActionDataKey).Kind)
	}
}
