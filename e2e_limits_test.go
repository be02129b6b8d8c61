package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// budget is a limit that gives nothing back while a test runs.
var budget = []string{"RATE_LIMIT_REQUESTS=12", "RATE_LIMIT_WINDOW_SECONDS=86400"}

// spend calls replicas in turn until all refuse for the limit, and returns how
// many calls they served.
func spend(t *testing.T, key string, replicas ...*process) (served int) {
	t.Helper()
	for range 40 {
		refused := 0
		for _, p := range replicas {
			got := openRPC(p.url, key)(t, "whoami", obj{})
			if got.code() == "" {
				served++
				continue
			}
			require.Equal(t, "rate_limited", got.code())
			refused++
		}
		if refused == len(replicas) {
			return served
		}
	}
	require.Fail(t, "nobody is limited")
	return 0
}

// redisIs waits until a server's readiness says whether its limits are shared. It
// is ready in both cases, and else degraded.
func redisIs(t *testing.T, p *process, shared bool) {
	t.Helper()
	detail := map[bool]string{true: "ok", false: "degraded"}[shared]
	require.Eventually(t, func() bool { // what it says may be a second old
		return dig(readiness(t, p.url, http.StatusOK), "redis.detail") == detail
	}, soon, 50*time.Millisecond, "readiness does not tell")
}

// Two replicas with one Redis give a subject one budget. When Redis is killed,
// each goes on and limits for itself, and says so; when it is back, there is one
// budget again.
func TestReplicasShareLimits(t *testing.T) {
	v := devstacktest.Shared(t)
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	env := append([]string{"REDIS_URL=" + r.URL().Reveal()}, budget...)
	a, b := startHTTP(t, settings(t, v, env...)), startHTTP(t, settings(t, v, env...))
	redisIs(t, a, true)
	require.Equal(t, 12, spend(t, devKey, a, b))

	r.Kill()
	require.Equal(t, 24, spend(t, botKey, a, b))
	require.LessOrEqual(t, spend(t, devKey, a, b), 12, "what was spent stays spent")
	for _, p := range []*process{a, b} {
		redisIs(t, p, false)
		require.Equal(t, 1, strings.Count(p.stderr(), `"limits are not shared"`), "once, and not for each call")
	}
	require.NoError(t, r.Restart(t.Context()))
	for _, p := range []*process{a, b} {
		require.Eventually(t, func() bool { return strings.Contains(p.stderr(), `"limits are shared again"`) }, soon, 10*time.Millisecond)
		redisIs(t, p, true)
	}
	require.Equal(t, 12, spend(t, webKey, a, b))
	for _, p := range []*process{a, b} {
		require.NotContains(t, p.stderr(), r.Password.Reveal())
	}
}

// Over TLS the certificate counts: with its authority trusted, limits are shared;
// without, nothing goes to whoever answers there.
func TestRedisOverTLS(t *testing.T) {
	v := devstacktest.Shared(t)
	r := devstacktest.Redis(t, devstack.RedisOptions{TLS: true})
	env := append([]string{"REDIS_URL=" + r.URL().Reveal()}, budget...)
	trusting := append([]string{"SSL_CERT_FILE=" + r.CACert}, env...)
	a, b := startHTTP(t, settings(t, v, trusting...)), startHTTP(t, settings(t, v, trusting...))
	require.Equal(t, 12, spend(t, devKey, a, b))
	stranger := startHTTP(t, settings(t, v, env...))
	redisIs(t, stranger, false)
	require.Contains(t, stranger.stderr(), "Redis cannot be reached")
}

// A mistake in REDIS_URL ends the start, and is told without the password.
func TestBadRedisURL(t *testing.T) {
	v := devstacktest.Shared(t)
	for _, url := range []string{"http://u:canary-4711@h", "rediss://u:canary-4711@h?skip_verify=true"} {
		env := settings(t, v, "REDIS_URL="+url)
		for _, command := range [][]string{{"http", "--addr", "127.0.0.1:0"}, {"config", "check"}, {"doctor"}} {
			ok, out, errOut := run(t, env, "", command...)
			require.False(t, ok)
			require.Contains(t, out+errOut, "REDIS_URL (environment): want redis://")
			require.NotContains(t, out+errOut, "4711")
		}
	}
}

// What a client proves itself with goes no further: not to Vault and not to AWS,
// from any surface and in no part of a request.
func TestClientCredentialsGoNoFurther(t *testing.T) {
	v, k := devstacktest.Engines(t), devstacktest.KMS(t)
	vaultSeen, kmsSeen := devstacktest.Recorder(t, v.Addr), devstacktest.Recorder(t, k.Endpoint)
	home := newIssuer(t, "https://issuer.example")
	token := home.token(obj{"sub": "dev"})
	env := append(append(settings(t, v, kmsOn(t, k)...), home.home()...), "VAULT_ADDR="+vaultSeen.URL, "AWS_KMS_ENDPOINT="+kmsSeen.URL)
	p := startHTTP(t, env)
	for _, seen := range []*devstacktest.Rec{vaultSeen, kmsSeen} {
		seen.LookFor(append(strings.Split(token, "."), devKey, "Authorization: Bearer")...)
		seen.Reset()
	}
	for _, header := range []map[string]string{{"X-API-Key": devKey}, {"Authorization": "Bearer " + devKey}, {"Authorization": "Bearer " + token}} {
		for _, frame := range []string{
			toolCall(`"kv.write"`, `{"path":"a","data":{"k":"v"}}`), toolCall(`"kv.read"`, `{"path":"a","wrap_ttl":"60s"}`),
			toolCall(`"kms.encrypt"`, `{"plaintext":"YQ=="}`),
		} {
			plain, modern := strings.ReplaceAll(frame, metaHole, ""), strings.ReplaceAll(frame, metaHole, modernMeta)
			with := modernHeaders(modern)
			for name, value := range header {
				with[name] = value
			}
			for _, r := range []raw{
				exchange(t, p.url+"/mcp/rpc", "", plain, header), exchange(t, p.url+"/mcp", "", modern, with),
			} {
				require.Equal(t, http.StatusOK, r.status, r.body)
				require.NotContains(t, r.body, `"isError":true`)
			}
		}
	}
	for _, seen := range []*devstacktest.Rec{vaultSeen, kmsSeen} {
		require.NotEmpty(t, seen.Requests())
		require.Empty(t, seen.Carrying())
	}
}
