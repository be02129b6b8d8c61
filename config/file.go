package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

// Bounds on what is read.
const (
	maxFile   = 1 << 20
	maxSecret = 64 << 10
)

// parsers are the formats of configuration files, by the ending of the name.
var parsers = map[string]struct {
	name   string
	parser koanf.Parser
}{
	".toml": {"TOML", toml.Parser()},
	".yaml": {"YAML", yaml.Parser()},
	".yml":  {"YAML", yaml.Parser()},
	".json": {"JSON", strictJSON{}},
}

// strictJSON refuses what encoding/json lets pass: a name given twice, data
// after the end, and bytes that are not UTF-8.
type strictJSON struct{}

func (strictJSON) Unmarshal(b []byte) (map[string]any, error) {
	var m map[string]any
	return m, json.Unmarshal(b, &m)
}

func (strictJSON) Marshal(m map[string]any) ([]byte, error) { return json.Marshal(m) }

// findFile decides which configuration file is read, "" for none, and says if
// it was found rather than named.
func findFile(o Options, env map[string]string) (path string, found bool, err error) {
	if o.File != "" {
		return o.File, false, nil
	}
	const name, alias = "APP_CONFIG_FILE", "CONFIG_FILE"
	switch a, b := env[name], env[alias]; {
	case a != "" && b != "" && a != b:
		return "", false, fmt.Errorf("%s and its other name %s are both set, and differ; want one of the two", name, alias)
	case a != "":
		return a, false, nil
	case b != "":
		return b, false, nil
	}
	var here []string
	for _, ext := range []string{".toml", ".json", ".yaml", ".yml"} {
		if _, err := os.Stat(filepath.Join(o.Dir, "config"+ext)); err == nil {
			here = append(here, "config"+ext)
		}
	}
	switch len(here) {
	case 0:
		return "", false, nil
	case 1:
		return filepath.Join(o.Dir, here[0]), true, nil
	}
	return "", false, fmt.Errorf("%s are all in the working directory; keep one, or name it with --config or %s",
		strings.Join(here, ", "), name)
}

// fileLayer reads and parses a configuration file. Whatever is wrong with it is
// noted; the layer then has what could be used, so that mistakes further on
// are found in the same run.
func (l *loader) fileLayer(path string) layer {
	none := layer{fromFile, map[string]any{}}
	format, ok := parsers[strings.ToLower(filepath.Ext(path))]
	if !ok {
		l.mistake(errors.New("configuration file: want a name that ends in .toml, .json, .yaml or .yml"))
		return none
	}
	content, mode, err := readFile(path, maxFile)
	if err == nil && mode.Perm()&0o002 != 0 {
		err = fmt.Errorf("everybody may write to it (mode %04o); want 0600", mode.Perm())
	}
	if err != nil {
		l.mistake(fmt.Errorf("configuration file %s: %w", path, err))
		return none
	}
	values, err := parse(format.parser, content)
	if err != nil {
		l.mistake(fmt.Errorf("configuration file %s: not valid %s%s", path, format.name, lineOf(err, content)))
		return none
	}
	return layer{fromFile, l.known(path, mode, values)}
}

// parse runs a parser. The YAML parser panics on some inputs, which is an error
// like any other here.
func parse(p koanf.Parser, content []byte) (m map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the parser gave up")
		}
	}()
	file := koanf.New("\x00")
	if err := file.Load(rawbytes.Provider(content), p); err != nil {
		return nil, err
	}
	return file.Raw(), nil
}

// known keeps the keys that are settings, in lower case, and reports the rest.
func (l *loader) known(path string, mode fs.FileMode, file map[string]any) map[string]any {
	values := map[string]any{}
	var inClear []string
	for _, name := range sortedKeys(file) {
		key := strings.ToLower(name)
		s, ok := names()[key]
		switch {
		case !ok:
			l.mistake(fmt.Errorf("%s (file): there is no such setting%s", printable(name), meant(key)))
		case values[key] != nil:
			l.mistake(fmt.Errorf("%s (file): given twice, in different spellings; want it once", key))
		case file[name] != nil:
			values[key] = file[name]
			if s.Kind == KindSecret && key == s.Key {
				inClear = append(inClear, key)
			}
		}
	}
	if len(inClear) > 0 && mode.Perm()&0o077 != 0 {
		l.warnings = append(l.warnings, fmt.Sprintf("configuration file %s: it holds secrets (%s) and others may read it (mode %04o); want 0600",
			path, strings.Join(inClear, ", "), mode.Perm()))
	}
	return values
}

// readSecret reads the file of a secret and says if others may read it too.
func readSecret(name any) (value, warning string, err error) {
	path, ok := name.(string)
	if !ok || path == "" {
		return "", "", errors.New("want the name of a file")
	}
	content, mode, err := readFile(path, maxSecret)
	if err != nil {
		return "", "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if text == "" {
		return "", "", errors.New("the file is empty")
	}
	if mode.Perm()&0o007 != 0 {
		warning = fmt.Sprintf("everybody on this machine may read or write the file (mode %04o); want 0600", mode.Perm())
	}
	return text, warning, nil
}

// readFile reads a regular file up to a size. Its errors do not name the file,
// because for some settings the name is the value.
func readFile(path string, limit int64) ([]byte, fs.FileMode, error) {
	// A pipe without a writer would hold us up for ever, so look before opening.
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("want a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, reason(err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, reason(err)
	}
	if int64(len(content)) > limit {
		return nil, 0, fmt.Errorf("the file is larger than %d KiB", limit>>10)
	}
	return content, info.Mode(), nil
}

// reason is what went wrong with a file, without its name.
func reason(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("no permission to read the file")
	}
	return errors.New("the file cannot be read")
}

var yamlLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bline (\d+)`) })

// lineOf says where in a file a parser stumbled. Of its own words nothing is
// used, because parsers quote what they read.
func lineOf(err error, content []byte) string {
	var positioned interface{ Position() (row, column int) }
	var syntactic *jsontext.SyntacticError
	line := 0
	switch {
	case errors.As(err, &positioned):
		line, _ = positioned.Position()
	case errors.As(err, &syntactic):
		line = 1 + strings.Count(string(content[:min(int(syntactic.ByteOffset), len(content))]), "\n")
	default:
		if m := yamlLine().FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
		}
	}
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", line)
}

// printable is a key of a file as it may stand in an error.
func printable(name string) string {
	const limit = 64
	if len(name) > limit {
		name = name[:limit]
	}
	return strconv.Quote(name)
}

// meant suggests the setting that a mistyped key comes nearest to.
func meant(key string) string {
	best, distance := "", 1+max(2, len(key)/5)
	for _, name := range sortedKeys(names()) {
		if d := editDistance(key, name, distance); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; is " + best + " meant?"
}

// editDistance is Levenshtein's, or limit if it is not below that.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return min(row[len(b)], limit)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
