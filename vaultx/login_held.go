package vaultx

import (
	"context"
	"net/http"
	"time"

	"vault-mcp/secret"
)

// held is the token in force.
type held struct {
	token     secret.Text
	unknown   bool          // given by hand, and not looked up yet
	first     time.Duration // the longest life that it was given
	end       time.Time     // zero: does not end
	due       time.Time     // when it is to be renewed or replaced; zero: never
	renewable bool          // else due is for a login, or for a warning
	refused   bool          // Vault does not know it
}

// usable reports whether there is a token that may be good.
func (h *held) usable(now time.Time) bool {
	return !h.token.IsZero() && !h.refused && (h.end.IsZero() || now.Before(h.end))
}

// plan decides when something is to be done about a token that has so much life
// from then on.
func (h *held) plan(ttl time.Duration, from time.Time) {
	if ttl == 0 {
		h.end, h.due = time.Time{}, time.Time{}
		return
	}
	h.end, h.first = from.Add(ttl), max(h.first, ttl)
	if ttl < h.first { // its maximum is near: not even what it is granted now is certain
		h.renewable = false
		h.due = from.Add(jittered(ttl / 2))
		return
	}
	h.due = from.Add(jittered(ttl * 2 / 3))
}

var (
	renewSelf  = fixed(http.MethodPost, "auth/token/renew-self")
	revokeSelf = fixed(http.MethodPost, "auth/token/revoke-self")
)

// renew asks for more life for a token.
func (c *Client) renew(ctx context.Context, token secret.Text) (grant, error) {
	resp, err := c.askWith(renewSelf, token).Do(ctx, Request{})
	if err != nil {
		return grant{}, err
	}
	return grantOf(resp)
}

// lookUp asks how long a token lives.
func (c *Client) lookUp(ctx context.Context, token secret.Text) (grant, error) {
	resp, err := c.askWith(lookupSelf, token).Do(ctx, Request{})
	if err != nil {
		return grant{}, err
	}
	var info TokenInfo
	if err := decodeData(resp, &info); err != nil {
		return grant{}, err
	}
	return grant{token: token, ttl: min(time.Duration(max(info.TTL, 0))*time.Second, longestTTL), renewable: info.Renewable}, nil
}
