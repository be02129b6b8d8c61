package vaultx

import (
	"context"
	"net/http"

	"vault-mcp/secret"
)

// Escaped is the path as it stands in a request line.
func (p Path) Escaped() string { return p.escaped }

// NewKVData is what decoding a value gives.
func NewKVData(data string) (d KVData, err error) {
	err = d.UnmarshalJSON([]byte(data))
	return d, err
}

// Wrapped asks for something whose answer comes wrapped, as an operator would,
// and returns the wrapping token.
func Wrapped(ctx context.Context, c *Client, path string, body any) (secret.Text, error) {
	resp, err := c.ask(fixed(http.MethodPost, path)).Do(ctx, Request{Body: body, wrapTTL: "60s"})
	if err != nil {
		return secret.Text{}, err
	}
	return resp.WrapInfo.Token, nil
}
