package devstack

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error)
		end := errors.New("end")
		go func() {
			time.Sleep(50 * time.Second)
			done <- end
		}()
		var told []string
		err := report(done, progressEvery, func(d time.Duration) { told = append(told, d.String()) })
		require.ErrorIs(t, err, end)
		require.Equal(t, []string{"15s", "30s", "45s"}, told)
	})
}

func TestTailKeepsTheEnd(t *testing.T) {
	out := &tail{max: 10}
	var all strings.Builder
	for i := range 200 {
		word := strings.Repeat(string(rune('a'+i%26)), i%7)
		n, err := out.Write([]byte(word))
		require.NoError(t, err)
		require.Equal(t, len(word), n)
		all.WriteString(word)
		want := all.String()
		require.Equal(t, want[max(0, len(want)-10):], out.String())
		require.LessOrEqual(t, len(out.buf), 20)
	}
	_, _ = out.Write([]byte("\nKey: abc\n"))
	word, ok := out.after("Key: ")
	require.True(t, ok)
	require.Equal(t, "abc", word)
	_, ok = out.after("Other: ")
	require.False(t, ok)
	out.reset()
	require.Empty(t, out.String())
}
