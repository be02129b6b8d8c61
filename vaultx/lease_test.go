package vaultx_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// forLeases binds an operation of the lease store.
func forLeases(t *testing.T, c *vaultx.Client, which string) *vaultx.Bound {
	t.Helper()
	op, err := vaultx.NewOperation("update", vaultx.MustTemplate("sys/leases/"+which), nil)
	require.NoError(t, err)
	return c.Bind(op, vaultx.BindOptions{Owner: "dev"})
}

// forCreds binds an operation that issues database credentials.
func forCreds(t *testing.T, c *vaultx.Client, role string) *vaultx.Bound {
	t.Helper()
	op, err := vaultx.NewOperation("read", vaultx.MustTemplate("{database}/creds/{role}"), map[string]string{"database": "database", "role": role})
	require.NoError(t, err)
	return c.Bind(op, vaultx.BindOptions{Owner: "dev"})
}

// What Vault says of leases that cannot be renewed and of such as are over, told
// apart as a caller must.
func TestLeasesOfARealVault(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	require.NoError(t, v.Request(t.Context(), "POST", "sys/mounts/ssh", map[string]any{"type": "ssh"}, nil))
	require.NoError(t, v.Request(t.Context(), "POST", "ssh/roles/otp", map[string]any{
		"key_type": "otp", "default_user": "ubuntu", "cidr_list": "127.0.0.0/8",
	}, nil))
	var issued struct {
		LeaseID string `json:"lease_id"`
	}
	require.NoError(t, v.Request(t.Context(), "POST", "ssh/creds/otp", map[string]any{"ip": "127.0.0.1"}, &issued))
	require.Equal(t, "ssh/creds/otp", vaultx.LeasePath(issued.LeaseID))
	c := realClient(t, v)

	_, err := vaultx.LeaseRenew(t.Context(), forLeases(t, c, "renew"), issued.LeaseID, 60)
	require.ErrorIs(t, err, fault.Invalid)
	require.Equal(t, "the lease cannot be renewed; get a new one instead", fault.From(err).Msg)
	for range 2 { // the second time it is over
		require.NoError(t, vaultx.LeaseRevoke(t.Context(), forLeases(t, c, "revoke"), issued.LeaseID))
		require.ErrorContains(t, v.Request(t.Context(), "POST", "sys/leases/lookup", map[string]any{"lease_id": issued.LeaseID}, nil), "status 400", "gone at once")
	}
	_, err = vaultx.LeaseRenew(t.Context(), forLeases(t, c, "renew"), issued.LeaseID, 0)
	require.ErrorIs(t, err, fault.NotFound)
	require.Equal(t, "the lease is over: it has expired or was revoked", fault.From(err).Msg)
	require.Nil(t, fault.From(err).Details, "that is known for certain")
}

func TestLeasePath(t *testing.T) {
	for id, want := range map[string]string{"database/creds/ro/x": "database/creds/ro", "a/b": "a", "x": "", "": ""} {
		require.Equal(t, want, vaultx.LeasePath(id))
	}
}

func TestDBRoleThatIsNot(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	c := realClient(t, v)
	_, err := vaultx.DBIssue(t.Context(), forCreds(t, c, "nobody"))
	require.ErrorIs(t, err, fault.Internal, "no engine at the mount is the operator's to mend")
	require.NoError(t, v.Request(t.Context(), "POST", "sys/mounts/database", map[string]any{"type": "database"}, nil))
	_, err = vaultx.DBIssue(t.Context(), forCreds(t, c, "nobody"))
	require.ErrorIs(t, err, fault.NotFound)
	require.Equal(t, "there is no such role", fault.From(err).Msg)
}

// What no real Vault answers on demand.
func TestDBAnswers(t *testing.T) {
	const lease = `"lease_id":"database/creds/ro/x","lease_duration":60,"renewable":true`
	for about, row := range map[string]struct {
		status  int
		body    string
		kind    fault.Kind
		msg     string
		unknown bool
	}{
		"the database is down":  {500, `{"errors":["dial tcp 10.1.2.3:5432: user=app-echo connection refused"]}`, fault.Unavailable, "Vault could not make credentials; the database may be down, or may have refused", true},
		"the plugin has failed": {502, `{"errors":["echo"]}`, fault.Unavailable, "Vault could not do this now", true},
		"another credential":    {200, `{` + lease + `,"data":{"username":"u","rsa_private_key":"echo"}}`, fault.Unavailable, "this role gives another kind of credential than a password; an operator must change the role", true},
		"no data":               {200, `{` + lease + `}`, fault.Unavailable, "", true},
		"no lease":              {200, `{"data":{"username":"u","password":"echo"}}`, fault.Unavailable, "", true},
		"sealed":                {503, `{"errors":["Vault is sealed"]}`, fault.Unavailable, "Vault is sealed", false},
		"denied":                {403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`, fault.Forbidden, "", false},
	} {
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/database/creds/ro" { // what the client asks about its token
				return
			}
			w.WriteHeader(row.status)
			_, _ = w.Write([]byte(row.body))
		})
		_, err := vaultx.DBIssue(t.Context(), forCreds(t, f.client(t), "ro"))
		require.ErrorIs(t, err, row.kind, about)
		told := fault.From(err)
		if row.msg != "" {
			require.Equal(t, row.msg, told.Msg, about)
		}
		require.Equal(t, row.unknown, told.Details["outcome"] == "unknown", about)
		require.NotContains(t, told.Msg, "echo")
		if told.Err != nil {
			require.NotContains(t, told.Err.Error(), "echo")
		}
	}
}

// A database that is down is not Vault that is down: nobody else's calls are
// held up by it.
func TestADatabaseThatIsDownOpensNoBreaker(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/database/creds/ro" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(`{"data":{"data":{},"metadata":{"version":1}}}`))
	})
	c := f.client(t)
	for range 20 {
		_, err := vaultx.DBIssue(t.Context(), forCreds(t, c, "ro"))
		require.ErrorIs(t, err, fault.Unavailable)
	}
	require.EqualValues(t, 20, f.requests.Load(), "each was asked once, and none again")
	start := time.Now()
	_, err := vaultx.KVRead(t.Context(), c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{Owner: "dev"}), 0)
	require.NoError(t, err)
	require.Less(t, time.Since(start), time.Second)
}
