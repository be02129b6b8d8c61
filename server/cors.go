package server

import (
	"net/http"

	rscors "github.com/rs/cors"
)

// cors lets pages of the allowed origins read answers, by answering a browser's
// preflight requests and marking what else it is answered. Where no origin is
// configured, it does nothing, and browsers keep answers from pages.
//
// It refuses nothing: hosts.allowsOrigin did that before.
type cors func(w http.ResponseWriter, r *http.Request, next func())

// preflightAge is how long a browser may remember a preflight's answer, in
// seconds.
const preflightAge = 600

func newCORS(opt Options, h hosts) cors {
	if len(opt.AllowedOrigins) == 0 {
		return func(_ http.ResponseWriter, _ *http.Request, next func()) { next() }
	}
	policy := rscors.New(rscors.Options{
		AllowOriginFunc: func(given string) bool {
			origin, ok := parseOrigin(given)
			return ok && h.origins[origin]
		},
		AllowedMethods: []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{
			"Accept", "Authorization", "Content-Type", "Last-Event-ID", "MCP-Protocol-Version",
			"Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "X-API-Key",
		},
		ExposedHeaders: []string{"Mcp-Session-Id", "Retry-After", "WWW-Authenticate", "X-Request-Id"},
		MaxAge:         preflightAge,
		// No AllowCredentials: credentials come in headers that a page sets
		// itself, never from a browser's store.
	})
	return func(w http.ResponseWriter, r *http.Request, next func()) {
		policy.ServeHTTP(w, r, func(http.ResponseWriter, *http.Request) { next() })
	}
}
