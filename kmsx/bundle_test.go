package kmsx_test

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/kmsx"
)

// AWS_CA_BUNDLE says whom to trust, as everywhere with AWS: with it a server of
// one's own authority is reached, without it not. A bundle that cannot be read
// is an error.
func TestCABundle(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"NotFoundException"}`)
	}))
	t.Cleanup(server.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(bundle, ca, 0o600))

	_, err := connect(t, kmsx.Config{Endpoint: server.URL}).Resolve(t.Context(), owner, "alias/dev")
	requireKind(t, fault.Unavailable, err)
	t.Setenv("AWS_CA_BUNDLE", bundle)
	_, err = connect(t, kmsx.Config{Endpoint: server.URL}).Resolve(t.Context(), owner, "alias/dev")
	requireKind(t, fault.NotFound, err)
	t.Setenv("AWS_CA_BUNDLE", bundle+".absent")
	_, err = kmsx.New(t.Context(), kmsx.Config{Endpoint: server.URL, Region: "eu-west-2"})
	require.ErrorContains(t, err, "AWS_CA_BUNDLE")
	require.NotContains(t, err.Error(), bundle)
}
