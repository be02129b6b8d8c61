package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"

	"vault-mcp/secret"
)

// Row is the effective value of one setting, fit for being shown.
type Row struct {
	Env    string `json:"env"`
	Value  string `json:"value"`  // "[redacted]" for a secret that is set
	Source string `json:"source"` // default, file, environment or flag
}

// Rows lists every setting with its effective value, secrets redacted.
func (c *Config) Rows() []Row {
	all := schema()
	rows := make([]Row, len(all))
	for i, s := range all {
		at := c.loaded.origin[s.Env]
		rows[i] = Row{Env: s.Env, Value: show(s, reflect.ValueOf(c).Elem().FieldByIndex(s.index)), Source: string(at.source)}
		if strings.HasSuffix(strings.ToUpper(at.name), fileSuffix) && s.Secret {
			rows[i].Source += " (" + at.name + ")"
		}
	}
	return rows
}

// Show writes the effective settings as a table, secrets redacted.
func (c *Config) Show(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "SETTING\tVALUE\tFROM\n")
	for _, row := range c.Rows() {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", row.Env, row.Value, row.Source)
	}
	return table.Flush()
}

// show is a value in the syntax of the environment, redacted.
func show(s setting, v reflect.Value) string {
	switch value := v.Interface().(type) {
	case secret.Text:
		if value.IsZero() {
			return ""
		}
		return secret.Redacted
	case time.Duration:
		if s.Kind == KindSeconds {
			return strconv.Itoa(int(value / time.Second))
		}
		return value.String()
	case []string:
		return strings.Join(value, ",")
	case map[string][]string:
		if len(value) == 0 {
			return ""
		}
		text, err := json.Marshal(value, json.Deterministic(true))
		if err != nil {
			return "(cannot be shown)"
		}
		return string(text)
	default:
		return fmt.Sprint(value)
	}
}

// Markdown writes the reference of all settings for the documentation.
func Markdown(w io.Writer) error {
	var b strings.Builder
	group := ""
	for _, s := range Reference() {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&b, "\n## %s\n\n| setting | default | meaning |\n|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Env, code(s.Default), strings.ReplaceAll(s.meaning(), "|", `\|`))
	}
	_, err := io.WriteString(w, strings.TrimPrefix(b.String(), "\n"))
	return err
}

// meaning is the help of a setting with what it may be.
func (s Setting) meaning() string {
	switch {
	case s.Secret:
		return s.Help + " Secret, or `" + s.Env + fileSuffix + "`."
	case s.Kind == KindSecret:
		return s.Help + " Secret."
	case s.Enum != nil:
		return s.Help + " One of `" + strings.Join(s.Enum, "`, `") + "`."
	case s.Max != "":
		return s.Help + " From " + s.Min + " to " + s.Max + "."
	}
	return s.Help
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
