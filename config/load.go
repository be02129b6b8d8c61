package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Options say where settings may come from. The zero value is what a program
// started by hand wants.
type Options struct {
	File  string            // a configuration file, as named by --config
	Dir   string            // where else config.* is looked for; default "."
	Env   []string          // "NAME=value"; nil means the environment of the process
	Flags map[string]string // by name of the setting in the environment: {"PORT": "8089"}
}

// source is where a value came from.
type source string

const (
	fromDefault source = "default"
	fromFile    source = "file"
	fromEnv     source = "environment"
	fromFlag    source = "flag"
)

// origin is the source of one value, and the name under which it stood there.
type origin struct {
	source source
	name   string
}

// loaded is what is known of a Config besides its values.
type loaded struct {
	file     string
	found    bool              // the file was not named but found in the working directory
	origin   map[string]origin // by name in the environment
	files    map[string]string // of secrets that were read from one
	warnings []string
}

// layer is what one source gives: raw values by key of the setting.
type layer struct {
	source source
	values map[string]any
}

// loader collects values, and mistakes, from source to source.
type loader struct {
	settings *koanf.Koanf
	origin   map[string]origin
	files    map[string]string
	warnings []string
	mistakes []error
}

// Load reads the settings from all sources and checks them. The error joins
// every mistake found, each on a line of its own; on error there is no Config.
func Load(o Options) (*Config, error) {
	env := environment(o.Env)
	l := &loader{settings: koanf.New("\x00"), origin: map[string]origin{}, files: map[string]string{}}
	path, found, err := findFile(o, env)
	l.mistake(err)
	l.add(layer{fromDefault, defaults(env)})
	if path != "" {
		l.add(l.fileLayer(path))
	}
	l.add(l.envLayer(env))
	l.warnings = append(l.warnings, ignored(env)...)
	l.add(l.flagLayer(o.Flags))

	c := &Config{}
	l.decode(c)
	if len(l.mistakes) > 0 {
		return nil, errors.Join(l.mistakes...)
	}
	c.loaded = loaded{file: path, found: found, origin: l.origin, files: l.files}
	l.mistake(consistent(c))
	l.mistake(login(c))
	if len(l.mistakes) > 0 {
		return nil, errors.Join(l.mistakes...)
	}
	c.loaded.warnings = slices.Concat(l.warnings, notices(c))
	return c, nil
}

func (l *loader) mistake(err error) {
	if err != nil {
		l.mistakes = append(l.mistakes, err)
	}
}

// add puts a layer over those before it. Values of a layer replace; they are
// never merged, so that a map in the environment is all there is of it.
func (l *loader) add(from layer) {
	l.inlineFiles(from)
	for key := range from.values {
		l.settings.Delete(key)
	}
	// A confmap has nothing to parse and hence no error.
	_ = l.settings.Load(confmap.Provider(from.values, ""), nil)
}

// inlineFiles replaces each NAME_FILE by the content of that file, notes the
// origins of all values, and reports secrets that were given both ways.
func (l *loader) inlineFiles(from layer) {
	for _, s := range schema() {
		name := s.Env
		if from.source == fromFile {
			name = s.Key
		}
		at := origin{from.source, name}
		file := "" // from which the value is read
		if key := s.Key + strings.ToLower(fileSuffix); s.Secret && from.values[key] != nil {
			fileAt := origin{from.source, at.name + fileSuffix}
			if from.source == fromFile {
				fileAt.name = key
			}
			if from.values[s.Key] != nil {
				l.mistake(fmt.Errorf("%s: given in the same place as %s; want one of the two", at, fileAt.name))
			}
			value, warning, err := readSecret(from.values[key])
			if err != nil {
				l.mistake(fmt.Errorf("%s: %w", fileAt, err))
				value = ""
			}
			if warning != "" {
				l.warnings = append(l.warnings, fmt.Sprintf("%s: %s", fileAt, warning))
			}
			file, _ = from.values[key].(string)
			delete(from.values, key)
			from.values[s.Key], at = value, fileAt
		}
		if from.values[s.Key] != nil {
			l.origin[s.Env], l.files[s.Env] = at, file
		}
	}
}

// decode fills the fields of c, in the order of the schema. A secret whose file
// could not be read is reported already and stays empty.
func (l *loader) decode(c *Config) {
	raw := l.settings.Raw()
	into := reflect.ValueOf(c).Elem()
	for _, s := range schema() {
		decoded, err := decode(s, l.expand(s, raw))
		if err == nil {
			err = validate(s, decoded)
		}
		if err != nil {
			l.mistake(fmt.Errorf("%s: %w", l.origin[s.Env], err))
			continue
		}
		into.FieldByIndex(s.index).Set(decoded)
	}
}

// String names the setting and the source in an error.
func (o origin) String() string {
	if o.source == fromDefault {
		return o.name + " (default)"
	}
	return fmt.Sprintf("%s (%s)", o.name, o.source)
}

// expand resolves a default that refers to another setting: "$NAME" or
// "$NAME/rest". Values from elsewhere are taken as they stand.
func (l *loader) expand(s setting, raw map[string]any) any {
	name, isRef := strings.CutPrefix(s.Default, "$")
	if !isRef || l.origin[s.Env].source != fromDefault || strings.HasPrefix(name, xdgStateHome) {
		return raw[s.Key]
	}
	name, rest, _ := strings.Cut(name, "/")
	target := raw[strings.ToLower(name)]
	for _, other := range schema() {
		if other.Env == name {
			target = l.expand(other, raw)
		}
	}
	if dir, ok := target.(string); ok && rest != "" {
		return filepath.Join(dir, rest)
	}
	return target
}

// xdgStateHome is the one name outside the schema to which a default may refer.
const xdgStateHome = "XDG_STATE_HOME"

// defaults is the layer below all others.
func defaults(env map[string]string) map[string]any {
	values := map[string]any{}
	for _, s := range schema() {
		values[s.Key] = s.Default
		if rest, ok := strings.CutPrefix(s.Default, "$"+xdgStateHome); ok {
			values[s.Key] = filepath.Join(stateHome(env), rest)
		}
	}
	return values
}

// stateHome is XDG_STATE_HOME as its specification has it: relative values are
// to be ignored.
func stateHome(env map[string]string) string {
	if dir := env[xdgStateHome]; filepath.IsAbs(dir) {
		return dir
	}
	home := env["HOME"]
	if home == "" {
		home, _ = os.UserHomeDir()
	}
	return filepath.Join(home, ".local", "state")
}

// environment turns "NAME=value" into a map, without what is empty.
func environment(list []string) map[string]string {
	if list == nil {
		list = os.Environ()
	}
	env := make(map[string]string, len(list))
	for _, entry := range list {
		if name, value, ok := strings.Cut(entry, "="); ok && value != "" {
			env[name] = value
		}
	}
	return env
}

// envLayer picks the settings out of the environment.
func (l *loader) envLayer(env map[string]string) layer {
	values := map[string]any{}
	for key := range names() {
		if value, ok := env[strings.ToUpper(key)]; ok {
			values[key] = value
		}
	}
	return layer{fromEnv, values}
}

// flagLayer takes what the command line gave.
func (l *loader) flagLayer(flags map[string]string) layer {
	values := map[string]any{}
	for name, value := range flags {
		key := strings.ToLower(name)
		if _, ok := names()[key]; !ok {
			l.mistake(fmt.Errorf("%s (flag): there is no such setting", name))
			continue
		}
		values[key] = value
	}
	return layer{fromFlag, values}
}
