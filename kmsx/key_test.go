package kmsx_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

func TestKeyIDs(t *testing.T) {
	pattern := regexp.MustCompile(kmsx.KeyIDPattern)
	for _, id := range []string{
		keyID, keyARN, "mrk-" + strings.Repeat("a1", 16), "alias/x", "alias/dev-bot--db/main_1", "alias/aws", "alias/AWS/x", "alias/a", "alias/aw", "alias/awsome", "alias/aws-x/y", "alias/ab/aws/", "alias//aws", "alias/" + strings.Repeat("x", 250),
		"arn:aws:kms:eu-west-2:111122223333:alias/x", "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-" + strings.Repeat("0", 32),
	} {
		require.NoError(t, kmsx.CheckKeyID(id), id)
		require.Regexp(t, pattern, id)
	}
	for _, id := range []string{
		"", "x", "key/" + keyID, "alias/", "alias", "Alias/x", "alias/x y", "alias/../x", "alias/x\n", "alias/é", "alias/x:y", "alias/x*", "alias/" + strings.Repeat("x", 251),
		strings.ToUpper(keyID), keyID + "0", keyID[1:], keyID + "\n", " " + keyID, strings.Replace(keyID, "-", "_", 1), "mrk-" + strings.Repeat("a", 31), "mrk-" + strings.Repeat("G", 32),
		"arn:aws:kms:eu-west-2:111122223333:" + keyID, "arn:aws:kms:eu-west-2:11112222333:key/" + keyID, "arn:aws:kms::111122223333:key/" + keyID,
		"arn:aws:s3:eu-west-2:111122223333:key/" + keyID, "arn:evil:kms:eu-west-2:111122223333:key/" + keyID, "arn:aws:kms:evil.example/:111122223333:key/" + keyID,
		"arn:aws:kms:eu-west-2:111122223333:key/x", "arn:aws:kms:eu-west-2:111122223333:key/" + keyID + ":x", "arn:aws:kms:eu-west-2:111122223333:alias/", "arn:", "../" + keyID, keyID + "?x",
	} {
		f := requireKind(t, fault.Invalid, kmsx.CheckKeyID(id))
		require.Contains(t, f.Msg, "key id")
		if len(id) <= 256 {
			require.NotRegexp(t, pattern, id)
		}
	}
	for _, id := range []string{"alias/aws/s3", "alias/aws/", "arn:aws:kms:eu-west-2:111122223333:alias/aws/ebs"} {
		require.Contains(t, requireKind(t, fault.Invalid, kmsx.CheckKeyID(id)).Msg, "AWS manages")
		require.NotRegexp(t, pattern, id)
	}
}

// An alias and its ARN, a key and its ARN: all lead to the key.
func TestResolve(t *testing.T) {
	id := newKey(t, "ECC_NIST_P256", forSigning)
	arn := "arn:aws:kms:" + region + ":" + account + ":key/" + id
	alias := "alias/test-" + id
	_, err := admin(t).CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String(alias), TargetKeyId: aws.String(id)})
	require.NoError(t, err)
	c := connect(t, kmsx.Config{Endpoint: localKMS(t)})
	aliasARN := "arn:aws:kms:" + region + ":" + account + ":" + alias
	for name, want := range map[string][]string{
		id: {arn, id}, arn: {arn, id}, alias: {arn, id, alias}, aliasARN: {arn, id, alias},
	} {
		key, err := c.Resolve(t.Context(), owner, name)
		require.NoError(t, err, name)
		require.Equal(t, []string{arn, id, "SIGN_VERIFY", "ECC_NIST_P256"}, []string{key.ARN, key.ID, key.Usage, key.Spec})
		require.Equal(t, want, kmsx.Names(name, key))
	}
	for name, msg := range map[string]string{
		"arn:aws:kms:" + region + ":999900001111:" + alias:       "own AWS account",
		"arn:aws-cn:kms:" + region + ":" + account + ":" + alias: "own AWS account",
		"arn:aws:kms:us-east-1:" + account + ":" + alias:         "region",
		"arn:aws:kms:us-east-1:" + account + ":key/" + id:        "region",
		"alias/aws/s3": "AWS manages",
		"nonsense":     "must be a key id",
	} {
		_, err := c.Resolve(t.Context(), owner, name)
		requireField(t, "/key_id", msg, err)
	}
	_, err = c.Resolve(t.Context(), owner, "alias/nobody")
	requireKind(t, fault.NotFound, err)
}

// What a key is stays known for a while, and not without bound.
func TestResolveIsRemembered(t *testing.T) {
	f := newFake(t, nil)
	c := connect(t, kmsx.Config{Endpoint: f.URL})
	for range 3 {
		_, err := c.Resolve(t.Context(), owner, "alias/one")
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, f.described.Load())
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 100 {
				_, err := c.Resolve(t.Context(), owner, fmt.Sprintf("alias/%d-%d", n, i))
				require.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, c.KeysKept(), 256)
	_, err := c.Resolve(t.Context(), owner, "alias/one")
	require.NoError(t, err)
	require.EqualValues(t, 402, f.described.Load(), "the oldest is forgotten")

	f.describe = says(400, "DisabledException")
	_, err = c.Resolve(t.Context(), owner, "alias/absent")
	requireKind(t, fault.Conflict, err)
	f.describe = nil
	_, err = c.Resolve(t.Context(), owner, "alias/absent")
	require.NoError(t, err, "an error is not remembered")
}

// A description that grants could not be held against is no description.
func TestStrangeDescriptions(t *testing.T) {
	describe := func(arn, id, manager string) string {
		return fmt.Sprintf(`{"KeyMetadata":{"Arn":%q,"KeyId":%q,"KeyManager":%q,"KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT"}}`, arn, id, manager)
	}
	for name, body := range map[string]string{
		"none": `{}`, "an alias": describe("arn:aws:kms:"+region+":"+account+":alias/x", keyID, "CUSTOMER"), "no ARN": describe("", keyID, "CUSTOMER"),
		"another id": describe(keyARN, strings.Replace(keyID, "1", "2", 1), "CUSTOMER"), "another region": describe(strings.Replace(keyARN, region, "us-east-1", 1), keyID, "CUSTOMER"),
	} {
		f := newFake(t, nil)
		f.describe = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
		_, err := connect(t, kmsx.Config{Endpoint: f.URL}).Resolve(t.Context(), owner, keyID)
		require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "cannot be read", name)
	}
	f := newFake(t, nil)
	f.describe = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(describe(keyARN, keyID, "AWS"))) }
	_, err := connect(t, kmsx.Config{Endpoint: f.URL}).Resolve(t.Context(), owner, keyID)
	requireField(t, "/key_id", "AWS manages", err)
}

// Whom AWS need not be asked for.
func TestMayMatch(t *testing.T) {
	is := func(names ...string) func(string) bool {
		return func(name string) bool {
			for _, n := range names {
				if n == name {
					return true
				}
			}
			return false
		}
	}
	const aliasARN = "arn:aws:kms:" + region + ":" + account + ":alias/x"
	for _, c := range []struct {
		id     string
		grants []string
		may    bool
	}{
		{"alias/x", nil, false},
		{"alias/x", []string{"alias/x"}, true},
		{"alias/x", []string{"alias/y"}, false},
		{aliasARN, []string{"alias/x"}, true},
		{aliasARN, []string{aliasARN}, true}, // it is not known to be no key's
		{"alias/x", []string{keyARN}, true},
		{keyID, []string{"alias/x"}, false},
		{keyID, []string{keyARN}, true},
		{keyARN, []string{keyARN}, true},
		{keyARN, []string{keyID}, true},
		{keyARN, []string{"arn:aws:kms:eu-west-2:111122223333:key/" + strings.Repeat("0", 36)}, false},
		{"nonsense", []string{"nonsense"}, false},
	} {
		require.Equal(t, c.may, kmsx.MayMatch(c.id, c.grants, is(c.grants...)), "%s with %v", c.id, c.grants)
	}
}

func TestBadConfigurations(t *testing.T) {
	good := kmsx.Config{Region: region, AccessKeyID: "AKID", SecretAccessKey: secret.NewText(canary)}
	for want, change := range map[string]func(*kmsx.Config){
		"AWS_REGION":                   func(c *kmsx.Config) { c.Region = "evil.example/" },
		"AWS_KMS_ENDPOINT":             func(c *kmsx.Config) { c.Endpoint = "http://kms.example" },
		"AWS_KMS_ENDPOINT: must":       func(c *kmsx.Config) { c.Endpoint = "https://user:CANARY@kms.example" },
		"AWS_KMS_ENDPOINT: must be":    func(c *kmsx.Config) { c.Endpoint = "https://kms.example/path" },
		"AWS_KMS_ENDPOINT: must be h":  func(c *kmsx.Config) { c.Endpoint = "http://127.0.0.1.example" },
		"AWS_KMS_ENDPOINT: must be ht": func(c *kmsx.Config) { c.Endpoint = "ftp://127.0.0.1" },
		"AWS_USE_FIPS_ENDPOINT":        func(c *kmsx.Config) { c.Endpoint, c.FIPS = "https://kms.example", true },
		"AWS_KMS_DEFAULT_KEY_ID":       func(c *kmsx.Config) { c.DefaultKeyID = "alias/aws/s3" },
		"want both or neither":         func(c *kmsx.Config) { c.SecretAccessKey = secret.Text{} },
		"AWS_SECRET_ACCESS_KEY":        func(c *kmsx.Config) { c.AccessKeyID = "" },
		"AWS_SESSION_TOKEN": func(c *kmsx.Config) {
			c.AccessKeyID, c.SecretAccessKey, c.SessionToken = "", secret.Text{}, secret.NewText(canary)
		},
	} {
		cfg := good
		change(&cfg)
		_, err := kmsx.New(t.Context(), cfg)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "CANARY")
	}
	for _, endpoint := range []string{"", "https://kms.example", "https://kms.example:8443/", "http://127.0.0.1:8089", "http://[::1]:1", "http://localhost:1"} {
		cfg := good
		cfg.Endpoint = endpoint
		c, err := kmsx.New(t.Context(), cfg)
		require.NoError(t, err, endpoint)
		c.Close()
	}
	t.Setenv("HOME", t.TempDir())
	_, err := kmsx.New(t.Context(), kmsx.Config{})
	require.ErrorContains(t, err, "AWS_REGION: is required")
}

// Many who want to know at once what a key is ask once; one that leaves does not
// end the question of the others, and what holds back one of them does not hold
// back the rest.
func TestResolveAsksOnce(t *testing.T) {
	f := newFake(t, nil)
	release, asked := make(chan struct{}), make(chan struct{}, 100)
	f.describe = func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		_, _ = fmt.Fprintf(w, `{"KeyMetadata":{"Arn":%q,"KeyId":%q,"KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT","KeyManager":"CUSTOMER"}}`, keyARN, keyID)
	}
	c := connect(t, kmsx.Config{Endpoint: f.URL, MaxConcurrent: 2})
	leaving, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := c.Resolve(leaving, "first", "alias/one")
		first <- err
	}()
	<-asked
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			key, err := c.Resolve(t.Context(), fmt.Sprint("owner-", n), "alias/one")
			require.NoError(t, err)
			require.Equal(t, keyID, key.ID)
		})
	}
	leave()
	requireKind(t, fault.Canceled, <-first)
	// The share of the first is used up by the question that goes on for it.
	_, err := c.Resolve(t.Context(), "first", "alias/two")
	requireKind(t, fault.RateLimited, err)
	close(release)
	all.Wait()
	require.EqualValues(t, 1, f.described.Load())
	_, err = c.Resolve(t.Context(), "first", "alias/two")
	require.NoError(t, err, "an error is not remembered")
}

// A client that is closed asks nothing more.
func TestCloseEndsLookups(t *testing.T) {
	f := newFake(t, nil)
	asked, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	f.describe = func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}
	c := connect(t, kmsx.Config{Endpoint: f.URL})
	result := make(chan error, 1)
	go func() {
		_, err := c.Resolve(t.Context(), owner, "alias/one")
		result <- err
	}()
	<-asked
	c.Close()
	require.Error(t, <-result)
	<-ended
}
