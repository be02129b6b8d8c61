package auth_test

import (
	"fmt"
	"os"
	"testing"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
)

// creatorEnv makes the test program one that creates keys in the named file and
// prints them, for the test of several processes.
const creatorEnv = "VAULT_MCP_TEST_CREATE_KEYS"

func TestMain(m *testing.M) {
	if path := os.Getenv(creatorEnv); path != "" {
		for range keysPerProcess {
			key, _, err := auth.NewKeyFile(path).Create("dev", auth.KeyOptions{})
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			fmt.Println(key.Reveal())
		}
		os.Exit(0)
	}
	os.Exit(devstacktest.Main(m))
}
