package main_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"vault-mcp/audit"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
)

// stage is where stories are told: one server, one principal, one trail.
type stage struct {
	v     *devstack.Vault
	call  caller
	env   []string // for commands about the server's trail
	home  string   // a folder of its secrets
	calls []told
}

// told is a call that was made, and its answer.
type told struct {
	tool string
	args obj
	got  reply
}

// stories are what the tools are for, in the order in which they are told.
var stories = []struct {
	name string
	tell func(t *testing.T, s *stage)
}{
	{"a secret is rotated before a deploy", rotateBeforeDeploy},
	{"a customer's credentials are read and wiped", readAndWipe},
	{"a plan is signed and verified", signPlan},
	{"database credentials are issued and revoked", borrowDatabase},
	{"a certificate opens a host just in time", enterByCertificate},
	{"a password opens a host once", enterByPassword},
	{"every write stands in the trail", everyWriteIsTold},
}

// TestStories tells them one after another over each surface.
func TestStories(t *testing.T) {
	v := devstacktest.Engines(t)
	for _, on := range surfaces() {
		t.Run(on.name, func(t *testing.T) {
			more := []string{"STATE_DIR=" + t.TempDir(), fmt.Sprintf(
				`GRANTS={"transit":[%q],"database":[%q],"ssh":[%q]}`, devstack.KeyECDSA, devstack.RoleReadOnly, devstack.RoleSSHOTP)}
			s := &stage{v: v, env: settings(t, v, more...), home: "stories-" + secret.RandomHex(4)}
			call := on.open(t, v, devKey, more...)
			s.call = func(t testing.TB, tool string, args obj) reply {
				t.Helper()
				got := call(t, tool, args)
				s.calls = append(s.calls, told{tool, args, got})
				return got
			}
			for _, story := range stories {
				t.Run(story.name, func(t *testing.T) { story.tell(t, s) })
			}
		})
	}
}

// refused makes a call that must fail, and returns the error's details.
func (s *stage) refused(t *testing.T, code, tool string, args obj) obj {
	t.Helper()
	got := s.call(t, tool, args)
	require.Equal(t, code, got.code(), "%s: %v", tool, got.body)
	details, _ := got.body["details"].(obj)
	return details
}

func rotateBeforeDeploy(t *testing.T, s *stage) {
	t.Helper()
	path := s.home + "/staging/app"
	old, fresh := obj{"user": "app", "password": "before"}, obj{"user": "app", "password": "after"}
	s.call.succeed(t, "kv.write", obj{"path": path, "data": old, "cas": 0})

	read := s.call.succeed(t, "kv.read", obj{"path": path})
	has("data", old, "metadata.version", 1)(t, read)
	seen := dig(read, "metadata.version")
	has("version", 2)(t, s.call.succeed(t, "kv.write", obj{"path": path, "data": fresh, "cas": seen}))
	s.refused(t, "conflict", "kv.write", obj{"path": path, "data": obj{"password": "of another pipeline"}, "cas": seen})

	has("data", fresh, "metadata.version", 2)(t, s.call.succeed(t, "kv.read", obj{"path": path}))
	has("data", old, "metadata.version", 1)(t, s.call.succeed(t, "kv.read", obj{"path": path, "version": 1}))
}

func readAndWipe(t *testing.T, s *stage) {
	t.Helper()
	path := s.home + "/customers/4711"
	creds := obj{"login": "customer", "pin": "2468"}
	s.call.succeed(t, "kv.write", obj{"path": path, "data": creds})
	has("data", creds)(t, s.call.succeed(t, "kv.read", obj{"path": path}))

	has("ok", true)(t, s.call.succeed(t, "kv.delete", obj{"path": path}))
	has("state", "deleted", "metadata.version", 1)(t, s.refused(t, "not_found", "kv.read", obj{"path": path}))
	has("ok", true)(t, s.call.succeed(t, "kv.destroy", obj{"path": path, "versions": []int{1}}))
	s.call.succeed(t, "kv.undelete", obj{"path": path, "versions": []int{1}})
	has("state", "destroyed", "metadata.destroyed", true)(t, s.refused(t, "not_found", "kv.read", obj{"path": path}))
}

func signPlan(t *testing.T, s *stage) {
	t.Helper()
	const plan = `{"format_version":"1.2","resource_changes":[{"address":"aws_instance.web","change":{"actions":["create"]}}]}`
	changed := strings.Replace(plan, "create", "delete", 1)
	signed := s.call.succeed(t, "transit.sign", utf8Args("key", devstack.KeyECDSA, "input", plan))
	signature, _ := signed["signature"].(string)
	check := func(input string) obj {
		t.Helper()
		return s.call.succeed(t, "transit.verify", utf8Args("key", devstack.KeyECDSA, "input", input, "signature", signature))
	}
	has("valid", true)(t, check(plan))
	has("valid", false)(t, check(changed))
	require.True(t, goVerifies(t, s.v, devstack.KeyECDSA, plan, signature), "by the public key alone")
	require.False(t, goVerifies(t, s.v, devstack.KeyECDSA, changed, signature))
}

func borrowDatabase(t *testing.T, s *stage) {
	t.Helper()
	creds := s.call.succeed(t, "db.issue_creds", obj{"role": devstack.RoleReadOnly})
	conn, err := login(t, creds)
	require.NoError(t, err)
	var items int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+devstack.DemoTable).Scan(&items))
	require.Equal(t, 3, items)

	has("ok", true)(t, s.call.succeed(t, "db.revoke", obj{"lease_id": creds["lease_id"]}))
	_, err = login(t, creds)
	require.ErrorContains(t, err, "password authentication failed")
	require.Error(t, conn.Ping(t.Context()), "who was in is out")
}

// enterByCertificate logs in to a real host, whose users are those of the
// machine: so it needs a role for who runs the tests.
func enterByCertificate(t *testing.T, s *stage) {
	t.Helper()
	host := devstacktest.StartSSHD(t, devstacktest.MountSSH(t, s.v))
	require.NoError(t, s.v.Request(t.Context(), http.MethodPost, devstacktest.SSHMount+"/roles/dev--stories", obj{
		"key_type": "ca", "allow_user_certificates": true, "allowed_users": host.User, "max_ttl": "30m",
	}, nil))
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	sign := obj{"role": "dev--stories", "public_key": string(ssh.MarshalAuthorizedKey(key)), "valid_principals": host.User, "ttl": "5m"}

	certificate, _ := s.call.succeed(t, "ssh.sign", sign)["certificate"].(string)
	out, err := host.Login(t, private, certificate, "echo in-$((40+2))")
	require.NoError(t, err, out)
	require.Contains(t, out, "in-42\n")
	_, stranger, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	_, err = host.Login(t, stranger, certificate, "true")
	require.Error(t, err, "the certificate is nothing without its key")
}

// enterByPassword asks Vault as the helper on a host does.
func enterByPassword(t *testing.T, s *stage) {
	t.Helper()
	got := s.call.succeed(t, "ssh.otp", obj{"role": devstack.RoleSSHOTP, "ip": "10.1.2.3", "username": devstack.SSHUser})
	verify := func() (answer struct{ Data struct{ IP, Username string } }, err error) {
		err = s.v.Request(t.Context(), http.MethodPost, devstacktest.SSHMount+"/verify", obj{"otp": got["otp"]}, &answer)
		return answer, err
	}
	host, err := verify()
	require.NoError(t, err)
	require.Equal(t, "10.1.2.3", host.Data.IP)
	require.Equal(t, devstack.SSHUser, host.Data.Username)
	_, err = verify()
	require.Error(t, err, "good twice")
}

// everyWriteIsTold finds each call of all stories in the trail, tried first and
// then ended. Of each write it stands there where it went, and the hashes by which
// whoever knows what was written, and the version that it made, finds them.
func everyWriteIsTold(t *testing.T, s *stage) {
	t.Helper()
	path := s.home + "/app"
	s.call.succeed(t, "kv.write", obj{"path": path, "data": obj{"a": "b"}, "cas": 0})
	has("version", 2)(t, s.call.succeed(t, "kv.patch", obj{"path": path, "data": obj{"c": "d"}, "cas": 1}))
	s.refused(t, "conflict", "kv.patch", obj{"path": path, "data": obj{"c": "e"}, "cas": 1})
	s.call.succeed(t, "kv.delete", obj{"path": path, "versions": []int{1}})

	key, err := secret.LoadKey(filepath.Join(setting(s.env, "STATE_DIR"), "audit.key"))
	require.NoError(t, err)
	hash := func(value string) string {
		hashed, err := audit.HMAC(key, []byte(value))
		require.NoError(t, err)
		return hashed
	}
	var records []audit.Record
	for _, rec := range readTrail(s.env).more(t) {
		if rec.Kind == audit.Attempt || rec.Kind == audit.Outcome {
			records = append(records, rec)
		}
	}
	require.Len(t, records, 2*len(s.calls))
	for i, c := range s.calls {
		tried, ended := records[2*i], records[2*i+1]
		about := fmt.Sprintf("call %d, %s", i, c.tool)
		require.Equal(t, []any{audit.Attempt, c.tool, "dev"}, []any{tried.Kind, tried.Tool, tried.Subject}, about)
		require.Equal(t, []any{audit.Outcome, c.tool, tried.RequestID}, []any{ended.Kind, ended.Tool, ended.RequestID}, about)
		if c.got.failed {
			require.Equal(t, c.got.code(), ended.Outcome, about)
			require.Equal(t, c.got.body["request_id"], ended.RequestID, about)
			continue
		}
		require.Equal(t, "ok", ended.Outcome, about)
		if wrote := c.result(); wrote != "" {
			require.Equal(t, hash(wrote), ended.Result, about)
			for name, value := range c.args {
				text, err := json.Marshal(value)
				require.NoError(t, err)
				require.Equal(t, hash(string(text)), tried.Args[name], "%s: %s", about, name)
			}
			require.Contains(t, strings.Join(tried.Needs, "\n"), "/mcp/dev/"+c.args["path"].(string), about)
		}
	}
	require.Len(t, verifyTrail(t, s.env).Chains, 1)
}

// result is the answer to a write as it was given; none of other calls.
func (c told) result() string {
	switch c.tool {
	case "kv.write", "kv.patch":
		return fmt.Sprintf(`{"version":%v,"created_time":%q}`, c.got.body["version"], c.got.body["created_time"])
	case "kv.delete", "kv.undelete", "kv.destroy":
		return `{"ok":true}`
	}
	return ""
}
