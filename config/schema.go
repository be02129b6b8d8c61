package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"vault-mcp/secret"
)

// Kind says how a setting is written.
type Kind string

// The kinds of settings.
const (
	KindString   Kind = "string"
	KindBool     Kind = "bool"
	KindInt      Kind = "int"
	KindDuration Kind = "duration"
	KindSeconds  Kind = "seconds"
	KindList     Kind = "list"
	KindMap      Kind = "map"
	KindTables   Kind = "tables"
	KindSecret   Kind = "secret"
)

// Tables is a list of tables, as the text of a JSON list of objects. The package
// that uses it reads it.
type Tables string

// Setting is what the reference says of one setting.
type Setting struct {
	Group   string   `json:"group"`
	Env     string   `json:"env"`
	Key     string   `json:"key"` // in a configuration file
	Kind    Kind     `json:"kind"`
	Default string   `json:"default"`
	Help    string   `json:"help"`
	Secret  bool     `json:"secret"` // may also be given as Env+"_FILE", or Key+"_file"
	Enum    []string `json:"enum,omitempty"`
	Min     string   `json:"min,omitempty"`
	Max     string   `json:"max,omitempty"`
}

// setting is a Setting with what loading needs besides.
type setting struct {
	Setting
	check string
	index []int // of the field in Config
}

// fileSuffix makes the name of a secret's file from the name of the secret.
const fileSuffix = "_FILE"

// schema reads the settings out of Config's tags, in the order in which they
// stand there. A mistake in a tag is a mistake in this package, hence a panic,
// which any use and any test meets.
var schema = sync.OnceValue(func() []setting {
	var all []setting
	groups := reflect.TypeFor[Config]()
	for g := range groups.Fields() {
		group, ok := g.Tag.Lookup("group")
		if !ok {
			continue
		}
		for f := range g.Type.Fields() {
			s := setting{
				Setting: Setting{
					Group: group, Env: f.Tag.Get("env"), Kind: kindOf(f), Default: f.Tag.Get("default"),
					Help: f.Tag.Get("help"), Min: f.Tag.Get("min"), Max: f.Tag.Get("max"),
				},
				check: f.Tag.Get("check"),
				index: append(append([]int(nil), g.Index...), f.Index...),
			}
			s.Key = strings.ToLower(s.Env)
			if enum := f.Tag.Get("enum"); enum != "" {
				s.Enum = strings.Split(enum, "|")
			}
			if _, known := checks[s.check]; s.Env == "" || s.Help == "" || s.check != "" && !known {
				panic("config: incomplete tags of " + f.Name)
			}
			all = append(all, s)
		}
	}
	for i := range all {
		own := slices.ContainsFunc(all, func(other setting) bool { return other.Env == all[i].Env+fileSuffix })
		all[i].Secret = all[i].Kind == KindSecret && !own // which is then not read here
	}
	return all
})

// kindOf derives how a setting is written from the type of its field.
func kindOf(f reflect.StructField) Kind {
	switch f.Type {
	case reflect.TypeFor[string]():
		return KindString
	case reflect.TypeFor[bool]():
		return KindBool
	case reflect.TypeFor[int]():
		return KindInt
	case reflect.TypeFor[time.Duration]():
		if f.Tag.Get("unit") == "seconds" {
			return KindSeconds
		}
		return KindDuration
	case reflect.TypeFor[[]string]():
		return KindList
	case reflect.TypeFor[map[string][]string]():
		return KindMap
	case reflect.TypeFor[Tables]():
		return KindTables
	case reflect.TypeFor[secret.Text]():
		return KindSecret
	}
	panic(fmt.Sprintf("config: no kind for the type of %s", f.Name))
}

// Reference lists every setting, group by group.
func Reference() []Setting {
	all := schema()
	out := make([]Setting, len(all))
	for i, s := range all {
		out[i] = s.Setting
	}
	return out
}

// names lists every key that may stand in a file, in lower case, including the
// *_file form of secrets, with the setting that it belongs to.
var names = sync.OnceValue(func() map[string]setting {
	m := map[string]setting{}
	for _, s := range schema() {
		m[s.Key] = s
		if s.Secret {
			m[s.Key+strings.ToLower(fileSuffix)] = s
		}
	}
	return m
})
