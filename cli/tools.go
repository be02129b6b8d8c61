package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"vault-mcp/tools"
)

func toolsCommand(o *options) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "tools",
		Short: "Show the catalogue of tools",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			switch catalog := theCatalog(); format {
			case "table":
				return toolsTable(o.out, catalog)
			case "json":
				return toolsJSON(o.out, catalog)
			case "markdown":
				return toolsMarkdown(o.out, catalog)
			case "summary":
				return toolsSummary(o.out, catalog)
			}
			return usage("--format must be table, json, markdown or summary")
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table, json, markdown, or summary (the table of the README)")
	return cmd
}

func toolsTable(w io.Writer, c *tools.Catalog) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "TOOL\tSCOPE\tEFFECT\tROUTE\tNEEDS")
	for _, t := range c.Tools() {
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", t.Name, dash(string(t.Scope)), t.Effect, t.Route, dash(strings.Join(needs(t), " | ")))
	}
	return tw.Flush()
}

func toolsJSON(w io.Writer, c *tools.Catalog) error {
	type entry struct {
		Name         string          `json:"name"`
		Title        string          `json:"title"`
		Description  string          `json:"description"`
		Scope        string          `json:"scope"`
		Effect       string          `json:"effect"`
		Needs        []string        `json:"needs"`
		Route        string          `json:"route"`
		InputSchema  json.RawMessage `json:"input_schema"`
		OutputSchema json.RawMessage `json:"output_schema"`
	}
	var list []entry
	for _, t := range c.Tools() {
		list = append(list, entry{
			t.Name, t.Title, t.Doc, string(t.Scope), string(t.Effect), needs(t), t.Route, t.InputSchema, t.OutputSchema,
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(list)
}

func toolsSummary(w io.Writer, c *tools.Catalog) error {
	_, _ = fmt.Fprint(w, "| tool | what it does | scope | effect |\n|---|---|---|---|\n")
	for _, t := range c.Tools() {
		_, _ = fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", t.Name, t.Title, dash(string(t.Scope)), t.Effect)
	}
	return nil
}

func toolsMarkdown(w io.Writer, c *tools.Catalog) error {
	_, _ = fmt.Fprint(w, "# Tools\n\nMade by `make gen` from the catalogue in package `tools`; a change here is lost.\n\n"+
		"`{kv}` is the mount from configuration, `{prefix}` the principal's own path prefix. Effect *read* sees, *use* exercises a key or mints a credential,\n"+
		"*write* changes, *destroy* takes away; `READ_ONLY` leaves only *read*. Clients that refuse a dot in a name see an underscore.\n")
	for _, t := range c.Tools() {
		_, _ = fmt.Fprintf(w, "\n## %s\n\n%s\n\nScope %s, effect %s, `%s`", t.Name, t.Doc, dash(string(t.Scope)), t.Effect, t.Route)
		if n := needs(t); len(n) > 0 {
			_, _ = fmt.Fprintf(w, "; needs of %s: `%s`", upstream(t), strings.Join(n, "` or `"))
		}
		_, _ = fmt.Fprint(w, ".\n")
		if err := schemaTable(w, "argument", t.InputSchema); err != nil {
			return err
		}
		if err := schemaTable(w, "result", t.OutputSchema); err != nil {
			return err
		}
	}
	return nil
}

// property is what a documentation table shows of a schema's member.
type property struct {
	Type        string `json:"type"`
	Description string `json:"description"`
	Items       *struct {
		Type string `json:"type"`
	} `json:"items"`
	Minimum *json.Number `json:"minimum"`
	Maximum *json.Number `json:"maximum"`
	Default any          `json:"default"`
	Enum    []string     `json:"enum"`
}

func schemaTable(w io.Writer, head string, raw json.RawMessage) error {
	var schema struct {
		Properties map[string]property `json:"properties"`
		Required   []string            `json:"required"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		return err
	}
	names, err := memberNames(raw)
	if err != nil || len(names) == 0 {
		return err
	}
	required := map[string]bool{}
	for _, name := range schema.Required {
		required[name] = true
	}
	_, _ = fmt.Fprintf(w, "\n| %s | type | |\n|---|---|---|\n", head)
	for _, name := range names {
		p := schema.Properties[name]
		star := ""
		if required[name] && head == "argument" {
			star = "*"
		}
		_, _ = fmt.Fprintf(w, "| `%s`%s | %s | %s%s |\n", name, star, p.kind(), strings.ReplaceAll(p.Description, "|", "\\|"), p.bounds())
	}
	return nil
}

func (p property) kind() string {
	if p.Items != nil {
		return p.Type + " of " + p.Items.Type
	}
	return p.Type
}

func (p property) bounds() string {
	var b []string
	if p.Minimum != nil {
		b = append(b, "at least "+p.Minimum.String())
	}
	if p.Maximum != nil {
		b = append(b, "at most "+p.Maximum.String())
	}
	if p.Default != nil && p.Default != "" {
		b = append(b, fmt.Sprint("default ", p.Default))
	}
	if len(p.Enum) > 0 {
		b = append(b, "one of "+strings.Join(p.Enum, ", "))
	}
	if len(b) == 0 {
		return ""
	}
	return " (" + strings.Join(b, ", ") + ")"
}

// memberNames lists the properties of a schema in their order.
func memberNames(raw json.RawMessage) ([]string, error) {
	var schema struct {
		Properties json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil || len(schema.Properties) == 0 {
		return nil, err
	}
	dec := json.NewDecoder(strings.NewReader(string(schema.Properties)))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	var names []string
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		names = append(names, name.(string))
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// needs are a tool's alternatives, as text.
func needs(t *tools.Tool) []string {
	list := make([]string, 0, len(t.Needs))
	for _, n := range t.Needs {
		if len(n.KMS) > 0 {
			list = append(list, strings.Join(n.KMS, ", "))
			continue
		}
		what := strings.Join(n.Capabilities, ", ") + " " + n.Path
		if n.Lease != "" {
			what += ", with a lease of the caller's own"
		}
		list = append(list, what)
	}
	return list
}

// upstream is where a tool's needs are.
func upstream(t *tools.Tool) string {
	if t.UsesKMS() {
		return "AWS KMS"
	}
	return "Vault"
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
