package events_test

import (
	"os"
	"testing"

	"vault-mcp/devstack/devstacktest"
)

func TestMain(m *testing.M) { os.Exit(devstacktest.Main(m)) }
