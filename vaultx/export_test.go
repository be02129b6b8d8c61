package vaultx

// Escaped is the path as it stands in a request line.
func (p Path) Escaped() string { return p.escaped }
