package kmsx

// KeysKept is how many keys are remembered.
func (c *Client) KeysKept() int {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	return len(c.keys.kept)
}
