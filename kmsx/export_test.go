package kmsx

import "github.com/aws/aws-sdk-go-v2/service/kms"

// Options are those with which AWS is asked.
func (c *Client) Options() kms.Options { return c.api.Options() }

// KeysKept is how many keys are remembered.
func (c *Client) KeysKept() int {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	return len(c.keys.kept)
}
