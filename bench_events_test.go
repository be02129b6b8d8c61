package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

const (
	noticeRounds = 200
	mostNotice   = 100 // ms, at the median
)

// BenchmarkNotice measures, for every way in, at the replica that took the write and
// at another, how long after the write's answer the change is heard.
func BenchmarkNotice(b *testing.B) {
	v := devstacktest.Fresh(b, devstacktest.Options{})
	env := noticeSettings("bench", append(shareFeed(devstacktest.Redis(b, devstack.RedisOptions{})), "LOG_LEVEL=info")...)
	same, other := startHTTP(b, settings(b, v, env...)), startHTTP(b, settings(b, v, env...))
	alone := startHTTP(b, settings(b, v, noticeSettings("bench-alone", "LOG_LEVEL=info")...))
	const folder = "kv://dev/"
	ears := named("same", openEars(b, same, withKey(devKey), folder))
	ears = append(ears, named("other", openEars(b, other, withKey(devKey), folder))...)
	for _, e := range stdioEars(b, v, env, devKey, folder) {
		ears = append(ears, timed(b, "other "+e.name, e))
	}
	own := named("alone", openEars(b, alone, withKey(devKey), folder))
	var targets []target
	var out strings.Builder
	tw := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(tw, "replica, way in\tp50 µs\tp90 µs\tp99 µs\t")
	for b.Loop() {
		took := noticed(b, openRPC(same.url, devKey), ears)
		for name, all := range noticed(b, openRPC(alone.url, devKey), own) {
			took[name] = all
		}
		for _, e := range slices.Concat(ears, own) {
			all := took[e.name]
			slices.Sort(all)
			p50 := all[len(all)/2]
			_, _ = fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t\n", e.name, p50.Microseconds(), all[len(all)*9/10].Microseconds(), all[len(all)*99/100].Microseconds())
			targets = append(targets, target{"notice, " + e.name + ", p50 ms", float64(p50) / 1e6, mostNotice, true})
		}
	}
	_ = tw.Flush()
	writeTargets(b, &out, targets)
}

func named(where string, ears []*openEar) []*openEar {
	for _, e := range ears {
		e.name = where + " " + e.name
	}
	return ears
}

// timed has the times at which a client of the SDK hears.
func timed(b *testing.B, name string, e *ear) *openEar {
	b.Helper()
	with := &openEar{name: name, when: make(chan time.Time, 1000)}
	go func() {
		for {
			select {
			case <-e.heard:
				with.when <- time.Now()
			case <-b.Context().Done():
				return
			}
		}
	}()
	return with
}

// noticed writes in rounds, and says how long after each answer each ear heard of it;
// zero where it was sooner.
func noticed(b *testing.B, write caller, ears []*openEar) map[string][]time.Duration {
	b.Helper()
	took := map[string][]time.Duration{}
	for i := range noticeRounds + 1 {
		wrote := write(b, "kv.write", obj{"path": "notice", "data": obj{"n": i}})
		require.False(b, wrote.failed, wrote.body)
		answered := time.Now()
		for _, e := range ears {
			select {
			case at := <-e.when:
				if i > 0 { // the first is for whoever connects only now
					took[e.name] = append(took[e.name], max(0, at.Sub(answered)))
				}
			case <-time.After(soon):
				require.Fail(b, "nothing is heard", e.name)
			}
		}
	}
	return took
}

const (
	manyFollowers = 10_000
	mostMoreP99   = 1.05
	costRounds    = 3
)

// BenchmarkFollowers compares, in one run, the time of a kv.write with 16 callers
// while nobody follows the events, while 10 000 do of whom 1000 are of the principal
// that writes, and while as many do who are all of others. The followers are a process
// of their own, which comes and goes in each round.
func BenchmarkFollowers(b *testing.B) {
	v := devstacktest.Fresh(b, devstacktest.Options{})
	keys := []string{benchKey}
	subjects := []string{quote(benchKey) + `:"bench"`}
	for i := range 9 {
		keys = append(keys, fmt.Sprintf("other%d-api-key-0123456789", i))
		subjects = append(subjects, fmt.Sprintf(`%q:"other%d"`, keys[i+1], i))
	}
	p := startHTTP(b, settings(b, v, "API_KEYS_JSON={"+strings.Join(subjects, ",")+"}", "RATE_LIMIT_REQUESTS=1000000", "LOG_LEVEL=info",
		fmt.Sprint("MAX_SUBSCRIBERS=", manyFollowers), fmt.Sprint("MAX_SUBSCRIBERS_PER_PRINCIPAL=", manyFollowers), fmt.Sprint("MAX_CONNECTIONS=", 5*manyFollowers)))
	write := writeLoad(p.url).write
	worlds := []struct {
		name string
		keys []string
	}{{"none", nil}, {"1000 of the writer, 9000 of others", keys}, {"10 000 of others", keys[1:]}}
	results := map[string]map[int][]sample{}
	var contenders []contender
	for _, w := range worlds {
		contenders = append(contenders, contender{w.name, p.cmd.Process.Pid, write})
		results[w.name] = map[int][]sample{}
	}
	for b.Loop() {
		for range costRounds {
			for _, w := range worlds {

				end := startFollowers(b, p.url, w.keys)
				time.Sleep(benchTime) // what it took to let them in, or go, is over then
				for _, callers := range []int{1, 16} {
					s, err := measure(callers, benchTime, p.cmd.Process.Pid, write)
					require.NoError(b, err, w.name)
					results[w.name][callers] = append(results[w.name][callers], s)
				}
				end()
			}
		}
	}
	var out strings.Builder
	writeTable(&out, contenders, results, func(string) string { return "none" })
	var targets []target
	for _, w := range worlds[1:] {
		more := ratio(results[w.name][16], results["none"][16], func(s sample) float64 { return float64(s.p99) })
		targets = append(targets, target{"kv.write p99, 16 callers, followed by " + w.name + ", of none", more, mostMoreP99, true})
	}
	writeTargets(b, &out, targets)
}

// startFollowers starts the process of followers, which share keys evenly, and waits
// until all of their streams are open. No keys: there are none.
func startFollowers(b *testing.B, url string, keys []string) (end func()) {
	b.Helper()
	if keys == nil {
		return func() {}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), followersOf+"="+strings.TrimPrefix(url, "http://"), followersKeys+"="+strings.Join(keys, ","))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	said := make([]byte, len("open\n"))
	_, err = out.Read(said)
	require.NoError(b, err)
	require.Equal(b, "open\n", string(said))
	return func() { _ = in.Close(); _ = cmd.Wait() }
}
