package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The least possible server on the SDK for the same read: one typed tool that
// calls the stock Vault client, with no credential, limit, check or record. It
// runs as a process of its own, which is this test binary with bareMode set.
const (
	bareMode = "BENCH_BARE"
	barePath = "mcp/bench/"
)

type bareIn struct {
	Path string `json:"path"`
}

type bareOut struct {
	Data    map[string]any `json:"data"`
	Version int            `json:"version"`
}

// bareServer serves until its input ends or it is killed.
func bareServer(mode string) error {
	debug.SetGCPercent(400)
	vault, err := benchVault()
	if err != nil {
		return err
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "bare", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "kv.read"}, func(ctx context.Context, _ *mcp.CallToolRequest, in bareIn) (*mcp.CallToolResult, bareOut, error) {
		s, err := vault.KVv2("secret").Get(ctx, barePath+in.Path)
		if err != nil {
			return nil, bareOut{}, err
		}
		return nil, bareOut{s.Data, s.VersionMetadata.Version}, nil
	})
	if mode == "stdio" {
		return server.Run(context.Background(), &mcp.StdioTransport{})
	}
	get := func(*http.Request) *mcp.Server { return server }
	stateful := mcp.NewStreamableHTTPHandler(get, nil)
	stateless := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, `{"msg":"listening","url":"http://%s"}`+"\n", ln.Addr())
	hs := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("MCP-Protocol-Version") >= "2026-07-28" {
			stateless.ServeHTTP(w, r)
			return
		}
		stateful.ServeHTTP(w, r)
	})}
	return hs.Serve(ln)
}

// benchVault is the stock client, as anybody would use it: with as many
// connections kept as there are callers.
func benchVault() (*api.Client, error) {
	cfg := api.DefaultConfig()
	cfg.Address = os.Getenv("VAULT_ADDR")
	if t, ok := cfg.HttpClient.Transport.(*http.Transport); ok {
		t.MaxIdleConnsPerHost = 64
	}
	return api.NewClient(cfg)
}
