package devstack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// StackOptions says what `vault-mcp dev` wants. The zero StackOptions will do.
type StackOptions struct {
	Log       func(string) // hears what takes long; nil: nobody does
	Prefix    string       // where the demo secrets stand; empty: DemoPrefix
	VaultOnly bool         // no other server, and no engine but KV
}

// DemoPrefix is the KV path of the demo subject.
const DemoPrefix = "mcp/dev-bot"

// Stack is every server of a development environment.
type Stack struct {
	Vault    *Vault
	Postgres *Postgres // nil: see Engines
	KMS      *KMS      // nil: see Engines
	Engines  []Engine  // besides KV
}

// Engine is what an engine of the stack has, or why it is not there.
type Engine struct {
	Name    string   // as grants call it
	Where   string   // its mount, or its address
	Objects []string // its keys or roles
	Missing error    // nil: it is there; else what is to be done
}

// String is a line for people.
func (e Engine) String() string {
	if e.Missing != nil {
		reason, _, _ := strings.Cut(e.Missing.Error(), "\n")
		return "MISSING: " + reason
	}
	return e.Where + ": " + strings.Join(e.Objects, ", ")
}

// StartStack starts the servers and puts demo data into them. A server besides
// Vault that cannot be had is noted in Engines, and the rest goes on. Like Start,
// it uses the context for the start alone.
func StartStack(ctx context.Context, opt StackOptions) (_ *Stack, err error) {
	s := &Stack{}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if opt.VaultOnly {
		if s.Vault, err = Start(ctx, Options{Log: opt.Log}); err != nil {
			return nil, err
		}
		return s, s.putSecrets(ctx, opt.Prefix)
	}
	// What is found may be built, one after the other, as they have much in common.
	vault := Options{Log: opt.Log}
	if vault.Bin, err = Find(ctx, opt.Log); err != nil {
		return nil, err
	}
	var pluginErr, postgresErr, kmsErr error
	vault.PostgresPlugin, pluginErr = FindPostgresPlugin(ctx, opt.Log)
	kms := KMSOptions{}
	kms.Bin, kmsErr = FindLocalKMS(ctx, opt.Log)
	var all sync.WaitGroup
	all.Go(func() { s.Vault, err = Start(ctx, vault) })
	all.Go(func() { s.Postgres, postgresErr = StartPostgres(ctx, PostgresOptions{}) })
	if kmsErr == nil {
		all.Go(func() { s.KMS, kmsErr = StartKMS(ctx, kms) })
	}
	all.Wait()
	if err == nil {
		err = context.Cause(ctx) // what is missing for that reason is not missing
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.putSecrets(ctx, opt.Prefix), s.Vault.SeedTransit(ctx), s.Vault.SeedSSH(ctx)); err != nil {
		return nil, err
	}
	s.Engines = []Engine{
		{Name: "transit", Where: TransitMount, Objects: TransitKeys()},
		{Name: "ssh", Where: SSHMount, Objects: []string{RoleSSHCA, RoleSSHOTP}},
		s.database(ctx, pluginErr, postgresErr),
		s.keys(kmsErr),
	}
	return s, nil
}

// database seeds the engine if there is a server for it.
func (s *Stack) database(ctx context.Context, pluginErr, postgresErr error) Engine {
	e := Engine{Name: "database", Where: DatabaseMount, Objects: []string{RoleReadOnly, RoleReadWrite}, Missing: postgresErr}
	if e.Missing != nil {
		return e
	}
	if err := s.Vault.SeedDatabase(ctx, s.Postgres); err != nil {
		e.Missing = err
		if pluginErr != nil { // a Vault that is not minimal needs none
			e.Missing = pluginErr
		}
		return e
	}
	e.Where += fmt.Sprintf(" (PostgreSQL at %s)", loopback(s.Postgres.Port))
	return e
}

func (s *Stack) keys(missing error) Engine {
	e := Engine{Name: "kms", Objects: KMSAliases(), Missing: missing}
	if missing == nil {
		e.Where = s.KMS.Endpoint
	}
	return e
}

func (s *Stack) putSecrets(ctx context.Context, prefix string) error {
	if prefix == "" {
		prefix = DemoPrefix
	}
	for name, data := range demoSecrets() {
		if err := s.Vault.PutSecret(ctx, prefix+"/"+name, data); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends all servers.
func (s *Stack) Stop() {
	if s.Vault != nil {
		s.Vault.Stop()
	}
	if s.Postgres != nil {
		s.Postgres.Stop()
	}
	if s.KMS != nil {
		s.KMS.Stop()
	}
}

// demoSecrets are values that nobody can take for real ones.
func demoSecrets() map[string]map[string]any {
	return map[string]map[string]any{
		"app/config": {
			"api_url": "https://api.example.com", "feature_flag": true, "api_token": "demo-token-not-a-real-one",
		},
		"app/database": {
			"host": "db.example.com", "port": 5432, "username": "demo", "password": "demo-password-not-a-real-one",
		},
	}
}
