// Command vault-mcp lets AI agents use HashiCorp Vault through the Model
// Context Protocol. `vault-mcp help` lists what it does.
package main

import (
	"os"

	"vault-mcp/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
