package server

import "github.com/modelcontextprotocol/go-sdk/mcp"

// ProtocolVersions are the revisions of the protocol that are served, newest
// first.
func ProtocolVersions() []string { return mcp.SupportedProtocolVersions() }
