package vaultx

import (
	"context"
	"net/http"
	"slices"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/secret"
)

var capabilitiesSelf = fixed(http.MethodPost, "sys/capabilities-self")

// Capabilities asks what the server's token may do at each of some paths. It
// changes nothing.
func (c *Client) Capabilities(ctx context.Context, paths []string) (map[string][]string, error) {
	resp, err := c.ask(capabilitiesSelf).Do(ctx, Request{Body: map[string][]string{"paths": paths}})
	if err != nil {
		return nil, err
	}
	var answer map[string]jsontext.Value
	if err := decodeData(resp, &answer); err != nil {
		return nil, err
	}
	has := make(map[string][]string, len(paths))
	for _, path := range paths {
		var list []string
		if err := jsonv2.Unmarshal(answer[path], &list); err != nil {
			return nil, unreadable(secret.JSONError(err))
		}
		has[path] = list
	}
	return has, nil
}

// Grants reports whether a list of capabilities includes one.
func Grants(has []string, capability string) bool {
	return slices.Contains(has, capability) || slices.Contains(has, "root")
}
