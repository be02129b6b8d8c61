// Package config holds the settings of vault-mcp: what they are called, where
// they come from, what they may be, and what they mean.
//
// # Declaring a setting
//
// A setting is one field of one of the structs in this file, and nothing else:
// its tags give the name in the environment, the default, the bounds and the
// words. Everything else is derived from them: loading, the key in a file (the
// name in lower case), validation, the error for a mistyped key, the redacted
// print and the reference in the documentation. The tags:
//
//	env      the name, as it stands in the environment
//	help     what it means, one or two sentences
//	default  in the syntax of the environment; "$NAME" stands for another setting
//	enum     the permitted words, separated by |
//	min,max  bounds, in the syntax of the setting's kind
//	check    the name of a further rule, see checks in check.go
//	unit     "seconds" for a time.Duration that is written as a whole number
//
// The kind follows from the Go type: string, bool, int, time.Duration (10s,
// 300s, 1h30m), []string (separated by commas, or a list in a file),
// map[string][]string (a JSON object, or a table in a file), Tables (a JSON list
// of objects, or a list of tables in a file) and secret.Text.
//
// # Sources
//
// Later wins: default, configuration file, environment, flags. The file is the
// one named by Options.File, else by APP_CONFIG_FILE (or CONFIG_FILE), else
// config.toml, config.json, config.yaml or config.yml in the working directory,
// of which there may be only one. An environment variable that is set to
// nothing counts as not set; an empty value in a file or a flag is a value.
// No .env file is read.
//
// A secret NAME may be given as NAME_FILE, the name of a file that holds it
// (a line break at its end does not count). To give both in the same source is
// an error; across sources the later one wins. Relative names are relative to
// the working directory.
//
// # Errors
//
// Load reports all mistakes at once. Each names the setting, the source and
// what is wanted, and never the value. On any error there is no Config at all,
// so that a half-written file can replace neither the settings in force nor
// switch anything off.
package config

import (
	"time"

	"vault-mcp/secret"
)

// Config is every setting, checked. It is made by Load and not changed after.
type Config struct {
	Vault  Vault  `group:"Vault"`
	KMS    KMS    `group:"AWS KMS"`
	Auth   Auth   `group:"Who may call"`
	Child  Child  `group:"Child tokens"`
	JWT    JWT    `group:"JSON Web Tokens"`
	Calls  Calls  `group:"Calls and limits"`
	Tools  Tools  `group:"Tools"`
	HTTP   HTTP   `group:"HTTP"`
	State  State  `group:"State and audit"`
	Log    Log    `group:"Logs"`
	loaded loaded // where each value came from, and what was noticed on the way
}

// Vault says where Vault is and as whom we call it.
type Vault struct {
	Addr          string      `env:"VAULT_ADDR" default:"http://localhost:8200" check:"base-url" help:"Address of Vault: scheme, host and port. Use https unless Vault is on this machine."`
	Namespace     string      `env:"VAULT_NAMESPACE" check:"path-or-empty" help:"Namespace sent with every request (Vault Enterprise; the Community Edition ignores it)."`
	Token         secret.Text `env:"VAULT_TOKEN" check:"header" help:"Token with which the server calls Vault."`
	AuthMethod    string      `env:"VAULT_AUTH_METHOD" default:"token" enum:"token|approle|kubernetes|jwt|cert" help:"How the server logs in to Vault. Not set, with VAULT_ROLE_ID: approle. A VAULT_TOKEN_FILE is read again when it changes, as Vault Agent writes it."`
	AuthMount     string      `env:"VAULT_AUTH_MOUNT" check:"path-or-empty" help:"Mount of the auth method. Empty: the method's own name."`
	AuthRole      string      `env:"VAULT_AUTH_ROLE" help:"Role of the login with kubernetes, jwt and cert; with approle the role from which a wrapped VAULT_SECRET_ID must come."`
	RoleID        secret.Text `env:"VAULT_ROLE_ID" check:"header" help:"Role id of the login with approle."`
	SecretID      secret.Text `env:"VAULT_SECRET_ID" check:"header" help:"Secret id of the login with approle, or a wrapping token around one. A VAULT_SECRET_ID_FILE is read at each login."`
	SecretWrapped bool        `env:"VAULT_SECRET_ID_WRAPPED" default:"false" help:"VAULT_SECRET_ID is a wrapping token; one that begins with hvs. is taken for one anyway."`
	JWTFile       string      `env:"VAULT_JWT_FILE" check:"file" help:"File of the JWT of the login with kubernetes and jwt, read at each login. Kubernetes: the pod's own token unless set."`
	CACert        string      `env:"VAULT_CACERT" check:"file" help:"PEM file with the certificate authority of Vault."`
	CAPath        string      `env:"VAULT_CAPATH" check:"folder" help:"Folder of PEM files with certificate authorities of Vault."`
	ClientCert    string      `env:"VAULT_CLIENT_CERT" check:"file" help:"PEM file with our client certificate. Needs VAULT_CLIENT_KEY."`
	ClientKey     string      `env:"VAULT_CLIENT_KEY" check:"file" help:"PEM file with the key of our client certificate. Needs VAULT_CLIENT_CERT."`
	TLSServerName string      `env:"VAULT_TLS_SERVER_NAME" check:"host-or-empty" help:"Name expected in Vault's certificate, if it is not the host of VAULT_ADDR."`
	SkipVerify    bool        `env:"VAULT_SKIP_VERIFY" default:"false" help:"Do not check Vault's certificate. Whoever answers in its place gets the token."`
	KVMount       string      `env:"KV_MOUNT" default:"secret" check:"path" help:"Mount of the KV version 2 engine."`
	TransitMount  string      `env:"TRANSIT_MOUNT" default:"transit" check:"path" help:"Mount of the transit engine."`
	DatabaseMount string      `env:"DATABASE_MOUNT" default:"database" check:"path" help:"Mount of the database engine."`
	SSHMount      string      `env:"SSH_MOUNT" default:"ssh" check:"path" help:"Mount of the SSH engine."`
	MaxConcurrent int         `env:"VAULT_MAX_CONCURRENT" default:"64" min:"1" max:"4096" help:"How many requests to Vault may be under way at once; more wait, within their deadline."`
}

// KMS says whether AWS KMS is used, and how it is reached. What is not set here
// the AWS SDK's own chain finds: environment, profile, web identity, instance
// role.
type KMS struct {
	Enabled         bool        `env:"AWS_KMS_ENABLED" default:"false" help:"Offer the tools that use AWS KMS keys."`
	Region          string      `env:"AWS_REGION" check:"region" help:"AWS region of the keys, such as eu-west-1. Empty: that of AWS_DEFAULT_REGION or of the AWS profile."`
	AccessKeyID     secret.Text `env:"AWS_ACCESS_KEY_ID" check:"header" help:"AWS access key with which the server calls AWS KMS. Empty: the AWS SDK looks in its profile, for a web identity, and for the role of the container or instance."`
	SecretAccessKey secret.Text `env:"AWS_SECRET_ACCESS_KEY" check:"header" help:"Secret of AWS_ACCESS_KEY_ID."`
	SessionToken    secret.Text `env:"AWS_SESSION_TOKEN" check:"header" help:"Session token of AWS_ACCESS_KEY_ID, where that is a temporary one."`
	Endpoint        string      `env:"AWS_KMS_ENDPOINT" check:"base-url-or-empty" help:"Endpoint of AWS KMS, if not AWS's own for the region: https, or http on this machine. Whoever answers there gets what is encrypted."`
	FIPS            bool        `env:"AWS_USE_FIPS_ENDPOINT" default:"false" help:"Use AWS's FIPS endpoint of the region."`
	DefaultKeyID    string      `env:"AWS_KMS_DEFAULT_KEY_ID" help:"Key of calls that name none: a key id, a key ARN, alias/NAME or an alias ARN. A caller needs a grant of it all the same."`
	SubjectContext  bool        `env:"AWS_KMS_SUBJECT_CONTEXT" default:"false" help:"Bind what is encrypted to its principal, by an entry mcp-subject in the encryption context, so that no other decrypts it. Symmetric keys only; what was encrypted without it can then not be decrypted here."`
	MaxConcurrent   int         `env:"AWS_KMS_MAX_CONCURRENT" default:"64" min:"1" max:"4096" help:"How many requests to AWS KMS may be under way at once; more wait, within their deadline."`
}

// Auth says who may call and as whom.
type Auth struct {
	DefaultPrefix string              `env:"DEFAULT_PREFIX" default:"mcp" check:"path" help:"Path in the KV mount below which each principal has its own prefix, DEFAULT_PREFIX/SLUG."`
	APIKeys       bool                `env:"AUTH_API_KEY_ENABLED" default:"true" help:"Accept API keys."`
	KeysJSON      secret.Text         `env:"API_KEYS_JSON" check:"json-object" help:"API keys in the clear: a JSON object from key to subject, or to an object with subject and scopes."`
	KeysFile      string              `env:"API_KEYS_FILE" default:"$STATE_DIR/api-keys.json" help:"File of the hashed API keys that 'vault-mcp key' keeps."`
	LaunchKey     secret.Text         `env:"VAULT_MCP_API_KEY" check:"header" help:"API key as which the calls of a stdio server are made."`
	Subject       string              `env:"SUBJECT" default:"stdio-agent" check:"subject" help:"Subject of a stdio server that was launched without a credential."`
	MTLS          bool                `env:"AUTH_MTLS_ENABLED" default:"false" help:"Accept client certificates: of our own TLS listener if TLS_CLIENT_CA_FILE is set, and those of which a proxy in TRUSTED_PROXIES tells."`
	MTLSIdentity  string              `env:"MTLS_IDENTITY" default:"uri" enum:"uri|dns|cn" help:"The name in a client certificate that is the caller's subject. There must be exactly one of its kind."`
	MTLSVerify    string              `env:"MTLS_VERIFY_HEADER" default:"x-ssl-client-verify" check:"header-name" help:"Header in which a trusted proxy says SUCCESS if it has verified the client certificate. Beside a TLS listener that takes client certificates, the headers of proxies count only if this or MTLS_CERT_HEADER is set."`
	MTLSSubject   string              `env:"MTLS_IDENTITY_HEADER" default:"x-ssl-client-s-dn" check:"header-name" help:"Header in which a trusted proxy sends the subject of the client certificate. Its CN names the caller, whatever MTLS_IDENTITY is."`
	MTLSPrefix    string              `env:"MTLS_SUBJECT_CN_PREFIX" default:"CN=" check:"attribute" help:"Which attribute of the subject that a proxy sends names the caller. /CN= reads OpenSSL's older form (/C=US/CN=name), in which values can be forged: want CN= and a proxy that writes RFC 4514."`
	MTLSCert      string              `env:"MTLS_CERT_HEADER" check:"header-name-or-empty" help:"Header in which a trusted proxy sends the whole client certificate (Client-Cert of RFC 9440, or PEM escaped for a URL). It is verified again, against TLS_CLIENT_CA_FILE, and counts in place of MTLS_IDENTITY_HEADER."`
	Principals    Tables              `env:"PRINCIPALS" help:"Rules that map verified identities to prefix, scopes, grants, limits and tools, the first that matches: a list of tables in a file, a JSON list of objects in the environment. See docs/principals.md."`
	Grants        map[string][]string `env:"GRANTS" check:"grants" help:"Named objects that every principal of the operator's own may use besides its own: a JSON object from engine (transit, database, ssh, kms) to a list of names, each with at most one * at its end."`
}

// Child says whether each principal's calls are made with a token of its own.
type Child struct {
	Enabled      bool          `env:"CHILD_TOKEN_ENABLED" default:"false" help:"Call Vault with a token of each principal's own, which has that principal's policy alone, in place of the server's. The policies are made by 'vault-mcp policy apply'."`
	TTL          time.Duration `env:"CHILD_TOKEN_TTL" default:"15m" min:"1m" max:"24h" help:"How long a child token lives. A new one takes its place before."`
	Role         string        `env:"CHILD_TOKEN_ROLE" check:"name-or-empty" help:"Token role of Vault through which child tokens are made; 'vault-mcp policy apply --server' makes it. Empty: they are children of the server's own token, which must then have every policy itself, and end with it."`
	PolicyPrefix string        `env:"CHILD_TOKEN_POLICY_PREFIX" default:"mcp-agent-" check:"policy-prefix" help:"What the name of a principal's policy in Vault begins with; its slug follows."`
}

// JWT says whose JSON Web Tokens are accepted. The settings but ISSUERS describe
// one issuer, whose subjects are the operator's own as those of API keys are.
type JWT struct {
	Enabled          bool          `env:"AUTH_JWT_ENABLED" default:"true" help:"Accept JSON Web Tokens as bearer tokens, from the issuers that are configured; without one, none is accepted."`
	Issuer           string        `env:"JWT_ISSUER" check:"header" help:"Issuer of the tokens, exactly as their claim iss says it. Needs one source of keys: JWT_HS256_SECRET, JWT_JWKS_FILE, JWT_JWKS_URL or OIDC_ISSUER."`
	OIDC             string        `env:"OIDC_ISSUER" check:"issuer-url" help:"URL of an OpenID Connect issuer, whose discovery document says where its keys are. It is the JWT_ISSUER too."`
	Audience         []string      `env:"JWT_AUDIENCE" check:"headers" help:"What the claim aud has to name: one of these. Empty: PUBLIC_URL, or PUBLIC_URL/mcp."`
	Algorithms       []string      `env:"JWT_ALGORITHMS" check:"jwt-algorithms" help:"Algorithms that tokens may be signed with. Empty: HS256 with JWT_HS256_SECRET, else RS256, RS384, RS512, PS256, ES256, ES384 and EdDSA."`
	Secret           secret.Text   `env:"JWT_HS256_SECRET" check:"jwt-secret" help:"Secret with which the issuer signs by HS256, at least 32 bytes. Whoever checks tokens with it can also make them."`
	JWKSFile         string        `env:"JWT_JWKS_FILE" check:"file" help:"File of the issuer's public keys, a JSON Web Key Set. It is read again when it changes."`
	JWKSURL          string        `env:"JWT_JWKS_URL" check:"jwks-url" help:"URL of the issuer's public keys: https, or http on this machine. With OIDC_ISSUER: the only one that its discovery document may name."`
	CacheFor         time.Duration `env:"JWT_JWKS_CACHE_SECONDS" unit:"seconds" default:"300" min:"10" max:"86400" help:"How long keys from a URL are good before they are fetched again, in seconds. A key that the issuer took back is refused after that."`
	RequireKID       bool          `env:"JWT_REQUIRE_KID" default:"false" help:"Refuse tokens that do not name their key."`
	ValidateIssuer   bool          `env:"JWT_VALIDATE_ISSUER" default:"true" help:"Check the claim iss. Off: every token that JWT_ISSUER's keys have signed is taken for one of its own."`
	ValidateAudience bool          `env:"JWT_VALIDATE_AUDIENCE" default:"true" help:"Check the claim aud. Off: a token that was made for another service opens this one."`
	Issuers          secret.Text   `env:"ISSUERS" check:"issuers" help:"Further issuers: a JSON list of objects with issuer, audience, algorithms, hs256_secret, jwks_file, jwks_url, oidc (true or false) and require_kid. They share no subject with JWT_ISSUER."`
	Launch           secret.Text   `env:"VAULT_MCP_JWT" check:"header" help:"Token as which the calls of a stdio server are made, checked on each call."`
	LaunchFile       string        `env:"VAULT_MCP_JWT_FILE" check:"file" help:"File of that token, which is read again on each call."`
}

// Calls bounds what a caller can ask for.
type Calls struct {
	Timeout      time.Duration `env:"CALL_TIMEOUT" default:"10s" min:"100ms" max:"10m" help:"How long a call may take in all."`
	WrapTTLMax   time.Duration `env:"WRAP_TTL_MAX" default:"300s" min:"1s" max:"24h" help:"Longest life of a wrapping token; a longer wish is shortened to it."`
	RateLimit    bool          `env:"RATE_LIMIT_ENABLED" default:"true" help:"Limit how often a principal may call."`
	RateRequests int           `env:"RATE_LIMIT_REQUESTS" default:"60" min:"1" max:"1000000" help:"Calls that a principal may make in each window."`
	RateWindow   time.Duration `env:"RATE_LIMIT_WINDOW_SECONDS" unit:"seconds" default:"60" min:"1" max:"86400" help:"Length of the window in seconds."`
	RateBurst    int           `env:"RATE_LIMIT_BURST" default:"$RATE_LIMIT_REQUESTS" min:"1" max:"1000000" help:"Calls that a principal may make at once after a pause."`
}

// Tools says which tools there are and how they are called.
type Tools struct {
	Names    string   `env:"TOOL_NAMES" default:"auto" enum:"auto|dotted|underscore" help:"Spelling of tool names in lists: kv.read, kv_read, or what the client is known to accept. Calls may use either."`
	ReadOnly bool     `env:"READ_ONLY" default:"false" help:"Offer only tools whose effect is to read."`
	Sets     []string `env:"TOOLSETS" check:"toolsets" help:"Toolsets that are offered: kv, transit, db, ssh, kms, read (what only reads), crypto (transit and kms), credentials (db and ssh). Empty: all."`
	Exclude  []string `env:"TOOLS_EXCLUDE" check:"tools" help:"Tools that are not offered, by name (kv.destroy), by engine (kv.*) or by toolset."`
}

// HTTP is the listener of 'vault-mcp http'.
type HTTP struct {
	Host           string        `env:"HOST" default:"127.0.0.1" check:"host" help:"Address or name on which to listen."`
	Port           int           `env:"PORT" default:"8089" min:"0" max:"65535" help:"Port on which to listen; 0 takes a free one."`
	CertFile       string        `env:"TLS_CERT_FILE" check:"file" help:"PEM file with the certificate under which to listen, and those of the authorities between. A new one is taken up within a second or two. Needs TLS_KEY_FILE."`
	KeyFile        string        `env:"TLS_KEY_FILE" check:"file" help:"PEM file with the key of TLS_CERT_FILE."`
	ClientCAFile   string        `env:"TLS_CLIENT_CA_FILE" check:"file" help:"PEM file with the certificate authorities of callers, for AUTH_MTLS_ENABLED. Changes are taken up within a second or two."`
	ClientCRLFile  string        `env:"TLS_CLIENT_CRL_FILE" check:"file" help:"PEM file with the revocation lists of the authorities of callers. If set, each of them must have a current one."`
	TrustedProxies []string      `env:"TRUSTED_PROXIES" check:"networks" help:"Addresses and networks (10.0.0.0/8) of proxies whose headers count: the client's address, and its certificate. Each must set or remove those headers, whatever its clients send."`
	ForwardedBy    string        `env:"FORWARDED_HEADER" default:"x-forwarded-for" enum:"x-forwarded-for|forwarded" help:"Header in which trusted proxies add the client's address."`
	PublicURL      string        `env:"PUBLIC_URL" check:"public-url" help:"URL under which clients reach this server, if a proxy stands before it."`
	AuthServers    []string      `env:"OAUTH_AUTHORIZATION_SERVERS" check:"auth-servers" help:"Issuer URLs of the OAuth authorization servers whose access tokens clients may get for this server. Clients are told of them at /.well-known/oauth-protected-resource."`
	AllowedHosts   []string      `env:"ALLOWED_HOSTS" check:"hosts" help:"Values of the Host header that are accepted besides loopback names and the host of PUBLIC_URL."`
	AllowedOrigins []string      `env:"CORS_ALLOW_ORIGINS" check:"origins" help:"Origins (https://app.example) of web pages that may call. Empty: none but our own."`
	Keepalive      time.Duration `env:"SSE_KEEPALIVE_SECONDS" unit:"seconds" default:"15" min:"1" max:"3600" help:"Seconds between signs of life on an idle stream."`
	MaxSessions    int           `env:"MAX_SESSIONS" default:"1000" min:"1" max:"100000" help:"MCP sessions that may be open at once."`
	MaxSubscribers int           `env:"MAX_SUBSCRIBERS" default:"1000" min:"1" max:"100000" help:"Streams of /events that may be open at once. Each takes a connection, see MAX_CONNECTIONS, unless clients use HTTP/2."`
	MaxSubsOfOne   int           `env:"MAX_SUBSCRIBERS_PER_PRINCIPAL" default:"100" min:"1" max:"100000" help:"How many of them one principal may have."`
	MaxSubscribed  int           `env:"MAX_SUBSCRIPTIONS" default:"10000" min:"1" max:"1000000" help:"Subscriptions of MCP clients that may exist at once; each URI is one."`
	MaxSubscrOfOne int           `env:"MAX_SUBSCRIPTIONS_PER_PRINCIPAL" default:"1000" min:"1" max:"1000000" help:"How many of them one principal may have."`
	MaxConnections int           `env:"MAX_CONNECTIONS" default:"4096" min:"4" max:"1000000" help:"Connections that may be open at once; a quarter of them of one network. The limit of open files must be above it."`
}

// State is what the server keeps on disk.
type State struct {
	Dir       string      `env:"STATE_DIR" default:"$XDG_STATE_HOME/vault-mcp" check:"absolute" help:"Folder of what the server keeps: keys and the audit trail. XDG_STATE_HOME is ~/.local/state unless set."`
	AuditFile string      `env:"AUDIT_FILE" help:"File of the audit trail. Empty: one file for each process in the folder audit of STATE_DIR."`
	AuditSync string      `env:"AUDIT_SYNC" default:"interval" enum:"interval|always" help:"When the trail is forced to disk: every second or so, or before each call goes on."`
	AuditKey  secret.Text `env:"AUDIT_HMAC_KEY" check:"key" help:"Key of the digests in the audit trail, 64 hexadecimal digits. Made in STATE_DIR if not given; replicas share it."`
	RedisURL  secret.Text `env:"REDIS_URL" check:"redis" help:"Redis in which replicas share the limits of callers and the feed of events: redis://[user:password@]host[:port][/number], or rediss:// for TLS. Empty: each process has limits and events of its own."`
	SealKey   secret.Text `env:"SEAL_KEY" check:"key" help:"Key of the handles that travel through clients, 64 hexadecimal digits. Made in STATE_DIR if not given; replicas share it."`
}

// Log says what is logged and where.
type Log struct {
	Level  string `env:"LOG_LEVEL" default:"info" enum:"debug|info|warn|error" help:"Least level that is logged."`
	Dir    string `env:"LOG_DIR" help:"Folder for rotating log files, one for each process, besides standard error. Empty: no files."`
	Format string `env:"LOG_FORMAT" default:"json" enum:"json|console" help:"Form of a log line."`
}

// Warnings are things that are permitted but hardly wanted, one sentence each,
// without values.
func (c *Config) Warnings() []string { return c.loaded.warnings }

// File is the configuration file that was read, "" if there was none.
func (c *Config) File() string { return c.loaded.file }

// Source says where the value of a setting came from: "default", "file",
// "environment" or "flag", and "" for a name that is no setting.
func (c *Config) Source(env string) string { return string(c.loaded.origin[env].source) }

// SecretFile is the file from which a secret was read, for those that are read
// again; "" if the secret was given in the clear, or not at all.
func (c *Config) SecretFile(env string) string { return c.loaded.files[env] }
