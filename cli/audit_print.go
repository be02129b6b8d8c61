package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"vault-mcp/audit"
)

func printReport(w io.Writer, report audit.Report, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(report)
	}
	for _, c := range report.Chains {
		if err := printChain(w, c); err != nil {
			return err
		}
	}
	return nil
}

func printChain(w io.Writer, c audit.ChainReport) error {
	state := "ok"
	if !c.OK {
		state = "FAILED"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", state, printable(c.Path))
	fmt.Fprintf(&b, "    %d records in %d files", c.Records, c.Files)
	if c.Records > 0 {
		fmt.Fprintf(&b, ", %s to %s", c.First.Format(time.RFC3339), c.Last.Format(time.RFC3339))
	}
	if c.Writing {
		b.WriteString(", being written now")
	}
	kinds := make([]string, 0, len(c.Kinds))
	for kind, n := range c.Kinds {
		kinds = append(kinds, fmt.Sprintf("%s %d", printable(string(kind)), n))
	}
	if len(kinds) > 0 {
		slices.Sort(kinds)
		fmt.Fprintf(&b, "\n    %s", strings.Join(kinds, ", "))
	}
	b.WriteByte('\n')
	for _, f := range c.Problems {
		fmt.Fprintf(&b, "    problem: %s\n", printable(f.String()))
	}
	if c.More > 0 {
		fmt.Fprintf(&b, "    problem: and %d more\n", c.More)
	}
	for _, f := range c.Notes {
		fmt.Fprintf(&b, "    note: %s\n", printable(f.String()))
	}
	if c.MoreNotes > 0 {
		fmt.Fprintf(&b, "    note: and %d more\n", c.MoreNotes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// recordLine is a record as people read it.
func recordLine(r *audit.Record) string {
	fields := []string{
		r.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
		fmt.Sprintf("%-10s", printable(string(r.Kind))),
	}
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, name+printable(value))
		}
	}
	add("", r.Subject)
	add("", r.Tool)
	add("", r.Outcome)
	add("", strings.Join(r.Needs, ", "))
	if r.DurationUS > 0 {
		add("", (time.Duration(r.DurationUS) * time.Microsecond).String())
	}
	if r.Detail != "" {
		add("", "("+r.Detail+")")
	}
	add("request ", r.RequestID)
	for _, n := range []struct {
		name  string
		value uint64
	}{{"file ", r.Part}, {"count ", r.Count}, {"refused ", r.Refused}, {"cut ", r.Cut}, {"torn ", r.Torn}, {"unsynced ", r.Unsynced}} {
		if n.value > 0 {
			add(n.name, strconv.FormatUint(n.value, 10))
		}
	}
	return strings.Join(fields, "  ")
}

// printable escapes what would do something to a terminal: a line is read
// before anything vouches for it.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}
