package kmsx

import (
	"slices"
	"strings"

	"vault-mcp/fault"
)

// KeyIDPattern is CheckKeyID's grammar as a regular expression, for schemas. It
// keeps to what both ECMA-262 and RE2 know, so that alias/aws/… is left out by
// spelling out all else, and it does not count the letters of an alias.
const KeyIDPattern = `^(arn:aws[a-z-]{0,13}:kms:[a-z0-9][a-z0-9-]{0,31}:[0-9]{12}:(key/(` + keyPattern + `)|` + aliasPattern + `)|` + keyPattern + `|` + aliasPattern + `)$`

const (
	keyPattern   = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32}`
	aliasPattern = `alias/(a|aw|aws|([b-zA-Z0-9/_-]|a[a-vx-zA-Z0-9/_-]|aw[a-rt-zA-Z0-9/_-]|aws[a-zA-Z0-9_-])[a-zA-Z0-9/_-]*)`
)

const (
	aliasPrefix = "alias/"
	awsAlias    = "alias/aws/"
	lowerHex    = "0123456789abcdef"
	aliasLetter = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-"
	// maxAlias is AWS's bound of an alias, with its prefix.
	maxAlias = 256
)

// CheckKeyID holds a key id to the one grammar of keys: a UUID, mrk-…, the ARN
// of a key, alias/NAME, or the ARN of an alias. The keys that AWS manages for
// its own services (alias/aws/…) are refused.
func CheckKeyID(id string) error {
	_, err := parseKeyID(id)
	return err
}

// named is a key id in its parts.
type named struct {
	partition, region, account string // of an ARN
	key                        string // the id of a key
	alias                      string // alias/NAME
}

func parseKeyID(id string) (named, error) {
	var n named
	rest := id
	if strings.HasPrefix(id, "arn:") {
		parts := strings.SplitN(id, ":", 6)
		if len(parts) != 6 || parts[2] != "kms" || !isPartition(parts[1]) || !isRegion(parts[3]) || len(parts[4]) != 12 || !only(parts[4], "0123456789") {
			return n, notAKeyID()
		}
		n.partition, n.region, n.account, rest = parts[1], parts[3], parts[4], parts[5]
	}
	switch key, inARN := strings.CutPrefix(rest, "key/"); {
	case strings.HasPrefix(rest, aliasPrefix):
		if len(rest) == len(aliasPrefix) || len(rest) > maxAlias || !only(rest, aliasLetter) {
			return n, notAKeyID()
		}
		if strings.HasPrefix(rest, awsAlias) {
			return n, fault.New(fault.Invalid, "must not be a key that AWS manages (alias/aws/…)")
		}
		n.alias = rest
	case inARN == (n.partition != "") && (isUUID(key) || isMultiRegion(key)):
		n.key = key
	default:
		return n, notAKeyID()
	}
	return n, nil
}

func notAKeyID() error {
	return fault.New(fault.Invalid, "must be a key id (a lower-case UUID or mrk-…), a key ARN, alias/NAME or an alias ARN")
}

func isPartition(s string) bool {
	return strings.HasPrefix(s, "aws") && len(s) <= 16 && only(s, "abcdefghijklmnopqrstuvwxyz-")
}

func isUUID(s string) bool {
	parts := strings.Split(s, "-")
	if len(s) != 36 || len(parts) != 5 {
		return false
	}
	for i, length := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != length || !only(parts[i], lowerHex) {
			return false
		}
	}
	return true
}

func isMultiRegion(s string) bool {
	hex, ok := strings.CutPrefix(s, "mrk-")
	return ok && len(hex) == 32 && only(hex, lowerHex)
}

// parseKeyARN is the ARN of a key in its parts.
func parseKeyARN(arn string) (named, bool) {
	n, err := parseKeyID(arn)
	return n, err == nil && n.account != "" && n.key != ""
}

// Names are the names of a resolved key against which grants are held: the
// alias that the caller named, if it named one, and the ARN and the id of the
// key that it resolved to. So a grant of an alias lets a caller use the key by
// that alias only, and a grant of a key lets it use the key by any name.
//
// An alias may be named by its ARN, too. Resolve sees to it that the ARN is of
// the account and region in which the alias was looked up.
func Names(keyID string, key Key) []string {
	names := []string{key.ARN, key.ID}
	if n, err := parseKeyID(keyID); err == nil && n.alias != "" {
		names = append(names, n.alias)
	}
	return names
}

// MayMatch reports whether a grant can match a key of this name, as far as that
// can be known before AWS is asked: matches is asked about what the caller
// named, and grants that are no aliases may match any key.
func MayMatch(keyID string, grants []string, matches func(name string) bool) bool {
	n, err := parseKeyID(keyID)
	if err != nil {
		return false
	}
	known := []string{n.key, keyID}
	if n.alias != "" {
		known = []string{n.alias}
	}
	if slices.ContainsFunc(known, matches) {
		return true
	}
	if n.alias == "" && n.account != "" {
		return false // the ARN of a key is what it is
	}
	return slices.ContainsFunc(grants, func(grant string) bool { return !strings.HasPrefix(grant, aliasPrefix) })
}
