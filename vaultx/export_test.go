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

// ChildToken is the token that a principal's requests are made with now.
func (c *Client) ChildToken(ctx context.Context, spec ChildSpec) (secret.Text, error) {
	return c.childSource(spec).token(ctx)
}

// Abandon leaves everything as a process does that is killed.
func (c *Client) Abandon() {
	c.children.loops()
	c.children.work.Wait()
	c.children.ledger.mu.Lock()
	defer c.children.ledger.mu.Unlock()
	_ = c.children.ledger.file.Close()
	c.children.ledger.file = nil
	c.children = nil
}
