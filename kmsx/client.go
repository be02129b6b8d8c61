// Package kmsx uses AWS KMS keys: one operation on one resolved key.
//
//	c, err := kmsx.New(ctx, kmsx.Config{Region: "eu-west-1"})
//	key, err := c.Resolve(ctx, owner, "alias/dev-bot")   // then: may the caller use it? see Names
//	out, err := c.Bind(kmsx.Operation{Action: kmsx.ActionEncrypt, Key: key}, kmsx.BindOptions{Owner: owner}).
//		Encrypt(ctx, kmsx.EncryptInput{Plaintext: …})
//
// A key is named by CheckKeyID's grammar and resolved to its ARN, and the ARN is
// what every operation sends: an alias that is pointed elsewhere between the
// check of the caller's grants and the operation changes nothing.
//
// AWS's limits are checked here, before the call, with messages that name the
// limit and the argument; errors.go classifies what AWS answers, once, and
// nothing of its texts goes further. Messages name arguments as the tools have
// them: "/plaintext", "/encryption_context".
package kmsx

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/logging"
	"golang.org/x/sync/singleflight"

	"vault-mcp/secret"
)

// Config says how AWS KMS is reached. Where it has no credentials, the AWS
// SDK's own chain has: environment, profile, web identity, container and
// instance role. The endpoint comes from here alone; the SDK's variables for it
// (AWS_ENDPOINT_URL and the like) have no say, since whoever answers there gets
// the plaintexts.
type Config struct {
	Region           string // empty: as the SDK's chain says
	Endpoint         string // empty: AWS's own; else https, or http to this machine
	DefaultKeyID     string // key of calls that name none
	FIPS             bool   // AWS's FIPS endpoints
	AccessKeyID      string // with SecretAccessKey; empty: the SDK's chain
	SecretAccessKey  secret.Text
	SessionToken     secret.Text // of temporary credentials
	SubjectContext   bool        // bind every ciphertext to its principal, see SubjectKey
	MaxConcurrent    int         // requests in flight, default 64; a principal has at most half
	MaxResponseBytes int64       // default 1 MiB
}

// Client reaches AWS KMS. It is safe for concurrent use.
type Client struct {
	cfg  Config
	api  *kms.Client
	wire *wire
	keys *keyCache

	lookups singleflight.Group // of keys, by what AWS is asked for
	base    context.Context    //nolint:containedctx // its end ends lookups
	end     context.CancelFunc
}

const (
	// attempts is how often an operation is tried. None changes anything in AWS,
	// so all may be repeated.
	attempts = 3
	// longestBackoff bounds the wait between two tries.
	longestBackoff = time.Second
	// longestCall bounds a call whose context has no deadline.
	longestCall = 30 * time.Second
	// credentialsPatience bounds a request for credentials.
	credentialsPatience = 10 * time.Second
)

// New makes a client. It reads the SDK's configuration files and does not wait
// for AWS: credentials are asked for when they are first used.
func New(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = 64
	}
	if cfg.MaxResponseBytes <= 0 {
		cfg.MaxResponseBytes = 1 << 20
	}
	options := []func(*config.LoadOptions) error{
		// For whoever gives the credentials. The SDK takes AWS_CA_BUNDLE with no other
		// kind of client.
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(credentialsPatience).
			WithTransportOptions(func(t *http.Transport) { t.Proxy = proxy })),
		// The "auto" mode, which the environment can ask for, goes to the network
		// at start to learn where it is.
		config.WithDefaultsMode(aws.DefaultsModeStandard),
		// The SDK's own log goes to standard error, past ours, and has texts of
		// whoever answered.
		config.WithLogger(logging.Nop{}), config.WithClientLogMode(0),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			cfg.AccessKeyID, cfg.SecretAccessKey.Reveal(), cfg.SessionToken.Reveal())))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		// The SDK's error may quote the files that it read.
		return nil, errors.New("the AWS configuration cannot be loaded: check what AWS_PROFILE, AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE and AWS_CA_BUNDLE name")
	}
	if !isRegion(loaded.Region) {
		return nil, errors.New("AWS_REGION: is required, a region's name such as eu-west-1")
	}
	settled, ok := loaded.HTTPClient.(*awshttp.BuildableClient)
	if !ok || loaded.Credentials == nil {
		return nil, errors.New("the AWS configuration cannot be used")
	}
	w := newWire(cfg)
	if t := settled.GetTransport().TLSClientConfig; t != nil {
		w.transport.TLSClientConfig.RootCAs = t.RootCAs // of AWS_CA_BUNDLE, if that is set
	}
	cfg.Region = loaded.Region
	c := &Client{cfg: cfg, wire: w, keys: newKeyCache()}
	c.base, c.end = context.WithCancel(context.WithoutCancel(ctx))
	c.api = kms.NewFromConfig(loaded, func(o *kms.Options) { c.settle(o, loaded.Credentials) })
	return c, nil
}

// settle overrides what the SDK took from the environment and may not.
func (c *Client) settle(o *kms.Options, from aws.CredentialsProvider) {
	o.HTTPClient = c.wire
	o.Credentials = &marked{from}
	o.BaseEndpoint = nil
	if c.cfg.Endpoint != "" {
		o.BaseEndpoint = aws.String(c.cfg.Endpoint)
		// An endpoint of one's own is the one that it is.
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
		o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
	}
	if c.cfg.FIPS {
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
	}
	o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) {
		s.MaxAttempts, s.MaxBackoff = attempts, longestBackoff
	})
}

func (cfg *Config) check() error {
	if cfg.Region != "" && !isRegion(cfg.Region) {
		return errors.New("AWS_REGION: must be a region's name, such as eu-west-1")
	}
	if cfg.Endpoint != "" && !isEndpoint(cfg.Endpoint) {
		return errors.New("AWS_KMS_ENDPOINT: must be https://, or http:// to this machine (127.0.0.1, ::1 or localhost), with a host and nothing after it")
	}
	if cfg.Endpoint != "" && cfg.FIPS {
		return errors.New("AWS_KMS_ENDPOINT: names an endpoint, so AWS_USE_FIPS_ENDPOINT cannot choose one; give the FIPS endpoint itself")
	}
	if cfg.DefaultKeyID != "" && CheckKeyID(cfg.DefaultKeyID) != nil {
		return errors.New("AWS_KMS_DEFAULT_KEY_ID: must be a key id, a key ARN, alias/NAME or an alias ARN, and no alias/aws/…")
	}
	if (cfg.AccessKeyID == "") != cfg.SecretAccessKey.IsZero() {
		return errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: want both or neither")
	}
	if cfg.AccessKeyID == "" && !cfg.SessionToken.IsZero() {
		return errors.New("AWS_SESSION_TOKEN: wants AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY besides")
	}
	return nil
}

// isRegion holds a region to what may stand in a host's name.
func isRegion(s string) bool {
	return s != "" && len(s) <= 32 && s[0] != '-' && only(s, "abcdefghijklmnopqrstuvwxyz0123456789-")
}

func isEndpoint(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	here := ip != nil && ip.IsLoopback() || strings.EqualFold(u.Hostname(), "localhost")
	return u.Scheme == "https" || u.Scheme == "http" && here
}

// only reports whether s has none but the given characters.
func only(s, characters string) bool { return strings.Trim(s, characters) == "" }

// DefaultKeyID is the key of calls that name none; it may be empty.
func (c *Client) DefaultKeyID() string { return c.cfg.DefaultKeyID }

// Region is the region whose keys are used.
func (c *Client) Region() string { return c.cfg.Region }

// Close ends idle connections.
func (c *Client) Close() {
	c.end()
	c.wire.transport.CloseIdleConnections()
}

// marked tells a failure to get credentials from all others.
type marked struct{ from aws.CredentialsProvider }

// credentialsError is a failure to get credentials.
type credentialsError struct{ error }

func (e credentialsError) Unwrap() error { return e.error }

// Retrieve implements aws.CredentialsProvider.
func (m *marked) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := m.from.Retrieve(ctx)
	if err != nil {
		return got, credentialsError{err}
	}
	return got, nil
}
