package devstack

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// The mounts of the engines besides KV.
const (
	TransitMount  = "transit"
	SSHMount      = "ssh"
	DatabaseMount = "database"
)

// The keys of the transit engine.
const (
	KeyAES        = "demo-aes"        // aes256-gcm96
	KeyChaCha     = "demo-chacha"     // chacha20-poly1305
	KeyEd25519    = "demo-ed25519"    // ed25519
	KeyECDSA      = "demo-ecdsa"      // ecdsa-p256
	KeyRSA        = "demo-rsa"        // rsa-2048
	KeyDerived    = "demo-derived"    // aes256-gcm96, derived
	KeyConvergent = "demo-convergent" // aes256-gcm96, derived and convergent
)

// The roles of the SSH and the database engine.
const (
	RoleSSHCA     = "demo-ca"   // signs keys of users, for the principals of SSHPrincipals
	RoleSSHOTP    = "demo-otp"  // for SSHUser on 127.0.0.0/8 and 10.0.0.0/8
	RoleReadOnly  = "readonly"  // SELECT on DemoTable
	RoleReadWrite = "readwrite" // SELECT, INSERT, UPDATE and DELETE on DemoTable
)

// SSHUser is the default user of both SSH roles, and SSHPrincipals are all users
// for whom RoleSSHCA signs.
const (
	SSHUser       = "ubuntu"
	SSHPrincipals = "ubuntu,deploy"
)

// TransitKeys are the names of the transit engine's keys.
func TransitKeys() []string {
	return []string{KeyAES, KeyChaCha, KeyEd25519, KeyECDSA, KeyRSA, KeyDerived, KeyConvergent}
}

// connectionName is the database engine's connection to the demo database.
const connectionName = "demo"

// SeedTransit mounts the transit engine with the demo keys. It may be done again.
func (v *Vault) SeedTransit(ctx context.Context) error {
	if err := v.mount(ctx, TransitMount, "transit", nil); err != nil {
		return err
	}
	return v.write(ctx,
		entry{TransitMount + "/keys/" + KeyAES, object{"type": "aes256-gcm96"}},
		entry{TransitMount + "/keys/" + KeyChaCha, object{"type": "chacha20-poly1305"}},
		entry{TransitMount + "/keys/" + KeyEd25519, object{"type": "ed25519"}},
		entry{TransitMount + "/keys/" + KeyECDSA, object{"type": "ecdsa-p256"}},
		entry{TransitMount + "/keys/" + KeyRSA, object{"type": "rsa-2048"}},
		entry{TransitMount + "/keys/" + KeyDerived, object{"type": "aes256-gcm96", "derived": true}},
		entry{TransitMount + "/keys/" + KeyConvergent, object{
			"type": "aes256-gcm96", "derived": true, "convergent_encryption": true,
		}},
	)
}

// SeedSSH mounts the SSH engine with a CA and the demo roles. It may be done
// again; the CA stays the same.
func (v *Vault) SeedSSH(ctx context.Context) error {
	// An OTP's lease has the mount's TTL, which is 32 days unless it is set.
	if err := v.mount(ctx, SSHMount, "ssh", object{"default_lease_ttl": "5m", "max_lease_ttl": "1h"}); err != nil {
		return err
	}
	// Vault refuses to make a second CA.
	err := v.Request(ctx, http.MethodPost, SSHMount+"/config/ca", object{"generate_signing_key": true}, nil)
	if err != nil && !refusedAs(err, "already configured", "keys are already") {
		return err
	}
	return v.write(ctx,
		entry{SSHMount + "/roles/" + RoleSSHCA, object{
			"key_type": "ca", "allow_user_certificates": true, "allow_host_certificates": false,
			"allowed_users": SSHPrincipals, "default_user": SSHUser,
			"allowed_extensions": "permit-pty,permit-port-forwarding,permit-agent-forwarding",
			"default_extensions": map[string]string{"permit-pty": ""},
			"ttl":                "5m", "max_ttl": "30m",
		}},
		entry{SSHMount + "/roles/" + RoleSSHOTP, object{
			"key_type": "otp", "default_user": SSHUser, "allowed_users": SSHPrincipals,
			"cidr_list": "127.0.0.0/8,10.0.0.0/8",
		}},
	)
}

// SeedDatabase mounts the database engine with a connection to the cluster's demo
// database and the demo roles. The Vault must have the plugin for PostgreSQL. It
// may be done again.
func (v *Vault) SeedDatabase(ctx context.Context, p *Postgres) error {
	if err := v.mount(ctx, DatabaseMount, "database", nil); err != nil {
		return err
	}
	return v.write(ctx,
		entry{DatabaseMount + "/config/" + connectionName, object{
			"plugin_name":          pluginName,
			"allowed_roles":        RoleReadOnly + "," + RoleReadWrite,
			"connection_url":       "postgresql://{{username}}:{{password}}@" + loopback(p.Port) + "/" + DemoDatabase + "?sslmode=disable",
			"username":             p.User,
			"password":             p.Password.Reveal(),
			"max_open_connections": 4,
		}},
		entry{DatabaseMount + "/roles/" + RoleReadOnly, databaseRole("SELECT")},
		entry{DatabaseMount + "/roles/" + RoleReadWrite, databaseRole("SELECT, INSERT, UPDATE, DELETE")},
	)
}

// databaseRole gives its users rights on the demo table. When they end, so do
// their sessions, which PostgreSQL would let go on.
func databaseRole(rights string) object {
	return object{
		"db_name": connectionName, "default_ttl": "5m", "max_ttl": "1h",
		"creation_statements": []string{
			`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`,
			`GRANT CONNECT ON DATABASE ` + DemoDatabase + ` TO "{{name}}"`,
			`GRANT USAGE ON SCHEMA public TO "{{name}}"`,
			`GRANT ` + rights + ` ON ` + DemoTable + ` TO "{{name}}"`,
		},
		"revocation_statements": []string{
			`ALTER ROLE "{{name}}" NOLOGIN`,
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}'`,
			`DROP OWNED BY "{{name}}"`,
			`DROP ROLE "{{name}}"`,
		},
	}
}

// object is a request's body, and entry one with its path.
type (
	object = map[string]any
	entry  struct {
		path string
		body object
	}
)

func (v *Vault) write(ctx context.Context, entries ...entry) error {
	for _, e := range entries {
		if err := v.Request(ctx, http.MethodPost, e.path, e.body, nil); err != nil {
			return err
		}
	}
	return nil
}

// mount mounts an engine, unless something is mounted there.
func (v *Vault) mount(ctx context.Context, path, kind string, config object) error {
	err := v.Request(ctx, http.MethodPost, "sys/mounts/"+path, object{"type": kind, "config": config}, nil)
	if refusedAs(err, "path is already in use") {
		return nil
	}
	return err
}

// refusedAs reports whether Vault refused with one of these words.
func refusedAs(err error, words ...string) bool {
	var failed *StatusError
	if !errors.As(err, &failed) || failed.Status != http.StatusBadRequest {
		return false
	}
	said := strings.Join(failed.Errors, "\n")
	for _, w := range words {
		if strings.Contains(said, w) {
			return true
		}
	}
	return false
}
