package main_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
)

// keptStep is a step of a story whose calls build on one another: an argument
// "<x>" stands for what an earlier one kept as x.
type keptStep struct {
	step
	keep   map[string]string // members of the answer, by the name under which they are kept
	key    string            // alias of the KMS key that the answer says was used
	before func(t *testing.T, beside servers, kept obj)
	after  func(t *testing.T, beside servers, got obj)
}

// servers are what is behind ours, for what happens there beside us.
type servers struct {
	vault *devstack.Vault
	kms   *devstack.KMS
}

// tell makes the calls of a story, and returns what was kept.
func (c caller) tell(t *testing.T, beside servers, story []keptStep) obj {
	t.Helper()
	kept := obj{}
	for _, step := range story {
		if step.before != nil {
			step.before(t, beside, kept)
		}
		args := maps.Clone(step.args)
		for name, value := range args {
			if text, ok := value.(string); ok && kept[text] != nil {
				args[name] = kept[text]
			}
		}
		got := c(t, step.tool, args)
		require.Equal(t, step.code, got.code(), "%s: %v", step.about, got.body)
		require.Equal(t, step.code != "", got.failed, step.about)
		if step.key != "" {
			require.Equal(t, beside.kms.ARN(step.key), got.body["key_id"], step.about)
		}
		for name, member := range step.keep {
			require.NotEmpty(t, got.body[member], step.about)
			kept["<"+name+">"] = got.body[member]
		}
		if step.want != nil {
			step.want(t, got.body)
		}
		if step.after != nil {
			step.after(t, beside, got.body)
		}
	}
	return kept
}

// with are arguments with some of them added or changed.
func with(args obj, pairs ...any) obj {
	for i := 0; i < len(pairs); i += 2 {
		args[pairs[i].(string)] = pairs[i+1]
	}
	return args
}
