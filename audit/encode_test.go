package audit

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// encodeLine is a record as Trail.add writes it.
func encodeLine(r Record) []byte {
	tr := Trail{mac: newMacer([]byte("k")), opt: Options{Now: time.Now}, next: start()}
	tr.add(&r)
	return tr.enc.buf
}

// filled is a record in which everything that a caller fills is s.
func filled(s string) Record {
	return Record{
		Kind: Kind("k" + s), RequestID: s, Transport: s, Remote: s, Subject: s, AuthMethod: s,
		CredentialID: s, Tool: s, Scope: s, Needs: []string{s, s + s, s}, Args: map[string]string{s: s, s + "2": s, "~1": s},
		Result: s, Outcome: s, Detail: s, DurationUS: int64(len(s)), VaultRequestID: s, AWSRequestID: s,
		Issuer: s, Rule: s,
	}
}

// checkLine is what holds for every record: one line of printable, valid JSON
// within the bound, that reads back.
func checkLine(t *testing.T, want Record) Record {
	t.Helper()
	line := encodeLine(want)
	require.LessOrEqual(t, len(line), maxRecord)
	require.Equal(t, 1, bytes.Count(line, []byte{'\n'}))
	require.Equal(t, byte('\n'), line[len(line)-1])
	text := line[:len(line)-1]
	require.True(t, utf8.Valid(text))
	for _, r := range string(text) {
		require.True(t, unicode.IsPrint(r), "%q is not printable", r)
	}
	require.True(t, json.Valid(text))
	got, err := Parse(text) // refuses members that occur twice
	require.NoError(t, err, "%s", text)
	_, ok := newMacer([]byte("k")).open(text)
	require.True(t, ok)
	require.Equal(t, 1, got.Version)
	require.Equal(t, 1, int(got.Seq))
	require.Len(t, got.Prev, macHex)
	return got
}

// valid is s as it reads back from JSON.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func FuzzEncoder(f *testing.F) {
	for _, s := range []string{
		"", "a", "\x00\n\r\x1b[31m\x7f", `"\`, "\u2028\u2029\u202e\u200b\ufeff", "\xff\xfe\xed\xa0\x80", "日本語", "😀\U000e0001",
		"</script><!--", `","mac":"`, strings.Repeat("\x01", 5000), strings.Repeat("é", 3000), strings.Repeat("😀", 300), "~1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := filled(s)
		got := checkLine(t, want)
		if got.Truncated {
			require.True(t, strings.HasPrefix(runs(s), runs(got.Subject)), "what is left is the beginning")
			return
		}
		require.Equal(t, runs(s), runs(got.Subject))
		require.Equal(t, runs(s), runs(got.Detail))
		require.Equal(t, want.DurationUS, got.DurationUS)
		if utf8.ValidString(s) {
			require.Equal(t, want.Needs, got.Needs)
			if s != "" {
				require.Equal(t, s, got.RequestID)
			}
		}
	})
}

// runs makes each run of bytes that are not UTF-8 one U+FFFD: how many stand
// for one is not what is tested.
func runs(s string) string {
	s = valid(s)
	for strings.Contains(s, "\ufffd\ufffd") {
		s = strings.ReplaceAll(s, "\ufffd\ufffd", "\ufffd")
	}
	return s
}

func TestRecordIsBoundedWhateverIsInIt(t *testing.T) {
	for _, unit := range []string{"a", "\x01", "😀", "\U000e0001", `"`, "\xff", "é"} {
		long := strings.Repeat(unit, 100_000)
		r := filled(long)
		for i := range 2000 {
			r.Needs = append(r.Needs, long[:1+i])
			r.Args[strings.Repeat(unit, i)] = long[:min(len(long), 300)]
		}
		got := checkLine(t, r)
		require.True(t, got.Truncated)
		require.NotEmpty(t, got.Needs)
		require.NotEmpty(t, got.Args)
		require.NotEmpty(t, got.Detail)
	}
	// Also with all that the trail itself adds.
	r := filled(strings.Repeat("\x01", 100_000))
	r.Chain, r.Key, r.File = strings.Repeat("c", 64), strings.Repeat("k", 64), strings.Repeat("\x01", 9999)
	r.Part, r.Count, r.Cut, r.Torn, r.Refused = 1<<63, 1<<63, 1<<63, 1<<63, 1<<63
	checkLine(t, r)
}

// Names of arguments that cannot stand as they are do not make one of two.
func TestArgumentNamesStayApart(t *testing.T) {
	args := map[string]string{"\xff": "a", "\xfe": "b", "~0": "c", "path": "d", strings.Repeat("x", 300): "e", strings.Repeat("x", 301): "f"}
	got := checkLine(t, Record{Kind: Attempt, Args: args})
	require.ElementsMatch(t, slices.Collect(maps.Values(args)), slices.Collect(maps.Values(got.Args)))
	require.Equal(t, "d", got.Args["path"])
	require.True(t, got.Truncated)
}

func TestHeadKnowsEveryByte(t *testing.T) {
	key := newMacer([]byte("k"))
	p := start()
	want := mark{Version: 1, Chain: "abc", Part: 3, Seq: 99, Size: 12345, Head: string(p.mac[:])}
	b := want.encode(nil, key)
	require.Len(t, b, headSize)
	got, err := readMark(bytes.NewReader(b), key)
	require.NoError(t, err)
	want.MAC = got.MAC
	require.Equal(t, want, got)
	for i := range b {
		for _, c := range []byte{' ', '\n', b[i] ^ 1} {
			if c == b[i] {
				continue
			}
			was := b[i]
			b[i] = c
			_, err := readMark(bytes.NewReader(b), key)
			require.ErrorIs(t, err, errBadHead)
			b[i] = was
		}
	}
	_, err = readMark(bytes.NewReader(append(b, '\n')), key)
	require.ErrorIs(t, err, errBadHead)
	_, err = readMark(bytes.NewReader(nil), key)
	require.ErrorIs(t, err, errNoHead)
}
