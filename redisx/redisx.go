// Package redisx is how every client of Redis here is set up, and how what goes
// wrong with one is told: REDIS_URL is read in one place, no query of it switches
// off the check of a certificate, nothing that a server answers comes into an
// error, and no command waits without bound.
package redisx

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Patience bounds one step of a command: to connect, to write, to read.
const Patience = time.Second

// ErrBadAnswer is an answer that cannot be one of Redis.
var ErrBadAnswer = errors.New("the answer is not one of Redis")

// Options reads REDIS_URL. The library's own errors may hold the password, and
// its query can switch off what must not be.
func Options(text secret.Text) (*redis.Options, error) {
	u, err := url.Parse(text.Reveal())
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New(fault.Invalid, "REDIS_URL: want redis://[user:password@]host[:port][/number], or rediss:// for TLS")
	}
	o, err := redis.ParseURL(text.Reveal())
	if err != nil {
		return nil, fault.New(fault.Invalid, "REDIS_URL: want redis://[user:password@]host[:port][/number], or rediss:// for TLS")
	}
	silence()
	o.Protocol, o.DisableIdentity = 2, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = Patience, Patience, Patience, Patience
	o.DialerRetries = 1
	return o, nil
}

// silence ends what the library says on standard error, past our log.
var silence = sync.OnceFunc(func() { redis.SetLogger(noLog{}) })

type noLog struct{}

func (noLog) Printf(context.Context, string, ...any) {}

// Lost is what is said of a Redis that does not answer as it should, and what
// follows from it. What went wrong is said in our words: the library's may quote
// what was answered.
func Lost(err error, consequence string) *fault.Error {
	why := "cannot be reached"
	var answered redis.Error
	var network net.Error
	switch {
	case errors.As(err, &answered):
		why = "refuses what is asked (is the password right, is it writable, are scripts allowed?)"
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &network) && network.Timeout():
		why = "does not answer in time"
	case errors.Is(err, ErrBadAnswer):
		why = "does not answer as Redis does"
	}
	return fault.New(fault.Unavailable, "Redis "+why+": "+consequence)
}
