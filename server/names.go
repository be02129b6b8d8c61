package server

import (
	"fmt"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ToolNames says how tools are spelled in tools/list. A call may use either
// spelling at any time.
type ToolNames string

// The spellings.
const (
	// NamesAuto spells with underscores for clients that are known to refuse a
	// dot, and to drop the whole list over it; with dots for all others.
	NamesAuto       ToolNames = "auto"
	NamesDotted     ToolNames = "dotted"
	NamesUnderscore ToolNames = "underscore"
)

func (n ToolNames) check() error {
	switch n {
	case NamesAuto, NamesDotted, NamesUnderscore:
		return nil
	}
	return fmt.Errorf("TOOL_NAMES must be auto, dotted or underscore")
}

// underscored reports whether a client gets underscores.
func (n ToolNames) underscored(client *mcp.Implementation) bool {
	switch n {
	case NamesDotted:
		return false
	case NamesUnderscore:
		return true
	default:
		return client != nil && refusesDots(client.Name)
	}
}

// refusesDots knows, by the name that they give in clientInfo, the clients
// that reject a dot in a tool's name: Claude Desktop and claude.ai ("claude-ai"),
// Cursor ("cursor", "cursor-vscode"), Codex ("codex-mcp-client"), and GitHub
// Copilot's command line and agents ("github-copilot-…", "copilot-…").
func refusesDots(client string) bool {
	client = strings.ToLower(client)
	for _, start := range []string{"claude-ai", "cursor", "codex"} {
		if strings.HasPrefix(client, start) {
			return true
		}
	}
	return strings.Contains(client, "copilot")
}
