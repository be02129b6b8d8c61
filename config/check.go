package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/secret"
)

// checks are the rules beyond kind and bounds, by the name in the check tag.
// Each gets the decoded value and says what is wanted instead. The packages
// that use a setting have the last word; the rules here catch the mistakes that
// people make while they can still be told so by name.
var checks = map[string]func(value any) error{
	"base-url":   text(isBaseURL),
	"public-url": text(isPublicURL),
	"region":     text(func(s string) error { return unlessEmpty(s, isRegion) }),

	"base-url-or-empty": text(func(s string) error { return unlessEmpty(s, isBaseURL) }),

	"path":          text(isPath),
	"path-or-empty": text(func(s string) error { return unlessEmpty(s, isPath) }),
	"host":          text(isHost),
	"host-or-empty": text(func(s string) error { return unlessEmpty(s, isHost) }),
	"file":          text(func(s string) error { return unlessEmpty(s, isFile) }),
	"folder":        text(func(s string) error { return unlessEmpty(s, isFolder) }),
	"absolute":      text(isAbsolute),
	"subject":       text(isSubject),
	"header":        text(func(s string) error { return unlessEmpty(s, isHeader) }),
	"key":           text(func(s string) error { return unlessEmpty(s, isKey) }),
	"redis":         text(func(s string) error { return unlessEmpty(s, isRedis) }),
	"json-object":   text(func(s string) error { return unlessEmpty(s, isObject) }),
	"issuers":       text(func(s string) error { return unlessEmpty(s, areIssuers) }),
	"hosts":         each(isHostPort),
	"networks":      each(isNetwork),
	"header-name":   text(isHeaderName),
	"attribute":     text(isAttribute),
	"origins":       each(isOrigin),
	"auth-servers":  each(isAuthServer),
	"tools":         each(isTool),
	"toolsets":      each(isToolset),
	"name-or-empty": text(func(s string) error { return unlessEmpty(s, isName) }),
	"policy-prefix": text(isPolicyPrefix),
	"grants":        areGrants,

	"headers":        each(isHeader),
	"issuer-url":     text(func(s string) error { return unlessEmpty(s, isKeyURL) }),
	"jwks-url":       text(func(s string) error { return unlessEmpty(s, isKeyURL) }),
	"jwt-algorithms": each(isJWTAlgorithm),
	"jwt-secret":     text(func(s string) error { return unlessEmpty(s, isJWTSecret) }),

	"header-name-or-empty": text(func(s string) error { return unlessEmpty(s, isHeaderName) }),
}

// validate applies the check of a setting to its value.
func validate(s setting, value reflect.Value) error {
	if s.check == "" {
		return nil
	}
	return checks[s.check](value.Interface())
}

// text makes a check of texts, secret or not.
func text(rule func(string) error) func(any) error {
	return func(value any) error {
		if t, ok := value.(secret.Text); ok {
			return rule(t.Reveal())
		}
		return rule(value.(string))
	}
}

// each makes a check of lists.
func each(rule func(string) error) func(any) error {
	return func(value any) error {
		for _, item := range value.([]string) {
			if err := rule(item); err != nil {
				return err
			}
		}
		return nil
	}
}

func unlessEmpty(s string, rule func(string) error) error {
	if s == "" {
		return nil
	}
	return rule(s)
}

// ofLetters reports whether s has letters, digits and the given others only.
// These rules are spelled out because compiling expressions with such counts
// takes milliseconds of every start.
func ofLetters(s, others string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune(others, r)
	})
}

// isPath takes a path with or without slashes around it.
func isPath(s string) error {
	for _, part := range strings.Split(strings.Trim(s, "/"), "/") {
		if part == "" || len(part) > 128 || !ofLetters(part, "._@=-") || part == "." || part == ".." {
			return errors.New("want a path of letters, digits and . _ @ = - with single slashes between, and neither . nor .. as a part")
		}
	}
	return nil
}

func isName(s string) error {
	if len(s) > 128 || !ofLetters(s, "._-") || s == "." || s == ".." {
		return errors.New("want a name of letters, digits and . _ -")
	}
	return nil
}

// isPolicyPrefix takes what Vault keeps as it is: it lower-cases names of
// policies. Without a prefix a subject could be called root.
func isPolicyPrefix(s string) error {
	if s == "" || len(s) > 64 || !ofLetters(s, "._-") || strings.ToLower(s) != s || strings.HasPrefix(s, ".") {
		return errors.New("want 1 to 64 small letters, digits and . _ -, with no . at the beginning")
	}
	return nil
}

func isRegion(s string) error {
	if len(s) > 32 || !ofLetters(s, "-") || strings.ToLower(s) != s {
		return errors.New("want the name of an AWS region, like eu-west-1")
	}
	return nil
}

func isAttribute(s string) error {
	name, ok := strings.CutSuffix(strings.TrimPrefix(s, "/"), "=")
	if !ok || name == "" || len(name) > 64 || !ofLetters(name, ".-") {
		return errors.New("want the type of an attribute and =, like CN= (or /CN= for OpenSSL's older form)")
	}
	return nil
}

var toolName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z]+([._](\*|[a-z_]+))?$`)
})

func isTool(s string) error {
	if !toolName().MatchString(s) {
		return errors.New("want names of tools (kv.destroy, kv_destroy) or engines (kv.*)")
	}
	return nil
}

func isToolset(s string) error {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") != "" {
		return errors.New("want names of toolsets, like kv or read")
	}
	return nil
}

// isAbsolute takes a path that means the same wherever a client launches us.
func isAbsolute(s string) error {
	if !filepath.IsAbs(s) {
		return errors.New("want an absolute path")
	}
	return nil
}

func isSubject(s string) error {
	if s == "" || len(s) > 128 || !utf8.ValidString(s) {
		return errors.New("want a name of 1 to 128 bytes")
	}
	return nil
}

func isKey(s string) error {
	_, err := secret.ParseKey(secret.NewText(s))
	return err
}

func isObject(s string) error {
	var m map[string]jsontext.Value
	if json.Unmarshal([]byte(s), &m) != nil || m == nil {
		return errors.New("want a JSON object, no name given twice")
	}
	return nil
}

func isFile(s string) error {
	if info, err := os.Stat(s); err != nil || !info.Mode().IsRegular() {
		return errors.New("want the name of a file that exists")
	}
	return nil
}

func isFolder(s string) error {
	if info, err := os.Stat(s); err != nil || !info.IsDir() {
		return errors.New("want the name of a folder that exists")
	}
	return nil
}

// engines are the engines whose objects are named in grants.
var engines = []string{"transit", "database", "ssh", "kms"}

func areGrants(value any) error {
	for engine, patterns := range value.(map[string][]string) {
		if !slices.Contains(engines, engine) {
			return errors.New("want only the engines " + strings.Join(engines, ", "))
		}
		for _, pattern := range patterns {
			if stars := strings.Count(pattern, "*"); stars > 1 || stars == 1 && !strings.HasSuffix(pattern, "*") {
				return errors.New("want names with at most one *, at the end")
			}
		}
	}
	return nil
}
