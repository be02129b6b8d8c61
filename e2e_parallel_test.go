package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// Sixty-four writers that all know the same version and want to replace it: one
// of them does, the others are told of the conflict and nothing else. No write
// is lost: each version holds what its winner wrote.
func TestConcurrentWritersWithCAS(t *testing.T) {
	const writers, rounds = 64, 8
	for _, r := range everyTransport() {
		t.Run(r.name, func(t *testing.T) {
			v := devstacktest.Fresh(t, devstacktest.Options{})
			// A principal may have half of the requests under way.
			session, _, _ := r.start(t, settings(t, v, fmt.Sprint("VAULT_MAX_CONCURRENT=", 2*writers)))
			winners := make([]int, rounds)
			for version := range rounds {
				answers := make([]answer, writers)
				errs := make([]error, writers)
				begin := make(chan struct{})
				var all sync.WaitGroup
				for w := range writers {
					all.Go(func() {
						<-begin
						answers[w], errs[w] = ask(context.Background(), session, "kv.write",
							obj{"path": "race", "data": obj{"winner": w}, "cas": version})
					})
				}
				close(begin)
				all.Wait()
				won := 0
				for w, a := range answers {
					require.NoError(t, errs[w])
					if a.code == "" {
						won++
						winners[version] = w
						require.EqualValues(t, version+1, a.body["version"])
						continue
					}
					require.Equal(t, "conflict", a.code, "%v", a.body)
					require.Nil(t, a.body["details"])
				}
				require.Equal(t, 1, won, "winners of version %d", version+1)
			}
			for i, w := range winners {
				got := callThrough(session)(t, "kv.read", obj{"path": "race", "version": i + 1})
				require.EqualValues(t, w, dig(got.body, "data.winner"), "version %d", i+1)
			}
		})
	}
}

// Each window of an IDE starts a process of its own, at the same moment and with
// the same state folder, which may not be there yet.
func TestStdioProcessesSideBySide(t *testing.T) {
	const processes, rounds = 8, 5
	v := devstacktest.Fresh(t, devstacktest.Options{})
	state := filepath.Join(t.TempDir(), "new", "state")
	env := settings(t, v, "STATE_DIR="+state)
	launched := make([]*mcp.IOTransport, processes)
	for i := range launched {
		_, launched[i] = launchStdio(t, env, devKey) // waits for nothing, so they start together
	}
	var all sync.WaitGroup
	errs := make([]error, processes)
	for i := range launched {
		session := connect(t, launched[i], "")
		all.Go(func() {
			for n := range rounds {
				a, err := ask(context.Background(), session, "kv.write", obj{"path": fmt.Sprint("side/", i), "data": obj{"n": n}})
				if err == nil && a.code != "" {
					err = fmt.Errorf("%v", a.body)
				}
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	entries, err := os.ReadDir(state)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.ElementsMatch(t, []string{"audit", "audit.key", "seal.key"}, names, "one key of each kind, and nothing left over")
	info, err := os.Stat(filepath.Join(state, "audit.key"))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())

	report := verifyTrail(t, env) // while all of them write
	require.Len(t, report.Chains, processes)
	for _, chain := range report.Chains {
		require.True(t, chain.Writing, chain.Path)
		require.EqualValues(t, rounds, chain.Kinds[audit.Attempt], chain.Path)
		require.EqualValues(t, rounds, chain.Kinds[audit.Outcome], chain.Path)
		require.Zero(t, chain.Unanswered, chain.Path)
	}
}
