package devstack

import "context"

// StackOptions says what `vault-mcp dev` wants. The zero StackOptions will do.
type StackOptions struct {
	Bin    string       // the Vault binary; empty: what Find finds
	Log    func(string) // hears what takes long; nil: nobody does
	Prefix string       // where the demo secrets stand; empty: DemoPrefix
}

// DemoPrefix is the KV path of the demo subject.
const DemoPrefix = "mcp/dev-bot"

// Stack is every server of a development environment.
type Stack struct {
	Vault *Vault
}

// StartStack starts the servers and puts demo data into them. Like Start, it
// uses the context for the start alone.
func StartStack(ctx context.Context, opt StackOptions) (*Stack, error) {
	v, err := Start(ctx, Options{Bin: opt.Bin, Log: opt.Log})
	if err != nil {
		return nil, err
	}
	if opt.Prefix == "" {
		opt.Prefix = DemoPrefix
	}
	for name, data := range demoSecrets() {
		if err := v.PutSecret(ctx, opt.Prefix+"/"+name, data); err != nil {
			v.Stop()
			return nil, err
		}
	}
	return &Stack{Vault: v}, nil
}

// Stop ends all servers.
func (s *Stack) Stop() { s.Vault.Stop() }

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
