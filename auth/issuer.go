package auth

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// JWTOptions say whose JWTs are accepted.
type JWTOptions struct {
	Accept     bool
	Home       *Issuer       // whose subjects are the operator's own; nil: none
	Further    secret.Text   // issuers with subjects of their own: ISSUERS, see parseIssuers
	Audiences  []string      // of issuers that have none: what this server is called
	CacheFor   time.Duration // how long keys from a URL are good
	Launch     secret.Text   // JWT as which a stdio process calls
	LaunchFile string        // file of one, read again on each call
}

// Issuer is one issuer of JWTs. It has one source of keys: Secret, JWKSFile,
// JWKSURL or OIDC. With OIDC, JWKSURL is the URL that its discovery document has
// to name.
type Issuer struct {
	Name       string      // the claim iss
	Audiences  []string    // of which the claim aud has to name one
	Algorithms []string    // empty: all that fit the source of keys
	Secret     secret.Text // of HS256
	JWKSFile   string
	JWKSURL    string
	OIDC       string // its URL, which is its name too
	RequireKID bool   // refuse tokens that do not name their key

	AnyIssuer, AnyAudience bool // do not look at the claim
}

// Bounds on issuers.
const (
	maxIssuers   = 32
	maxIssuer    = 512 // bytes of its name
	minJWTSecret = 32  // bytes: as strong as the digest
)

// leeway is how far an issuer's clock and ours may be apart.
const leeway = time.Minute

// algorithms of keys, and the one of a secret.
var (
	keyAlgorithms    = []string{"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"}
	secretAlgorithms = []string{"HS256"}
)

// issuerNames are what mistakes call the members of an Issuer.
type issuerNames struct{ name, audience, algorithms, secret, file, url, oidc, check string }

var (
	homeNames = issuerNames{
		"JWT_ISSUER", "JWT_AUDIENCE", "JWT_ALGORITHMS", "JWT_HS256_SECRET", "JWT_JWKS_FILE", "JWT_JWKS_URL", "OIDC_ISSUER", "JWT_VALIDATE_ISSUER",
	}
	furtherNames = issuerNames{"issuer", "audience", "algorithms", "hs256_secret", "jwks_file", "jwks_url", "oidc", ""}
)

// check says all that is wrong with an issuer, without a value.
func (i *Issuer) check(n issuerNames, mistake func(format string, args ...any)) {
	if i.Name == "" && !i.AnyIssuer {
		mistake("%s: it is missing; want what the claim iss says", n.name)
	}
	if len(i.Name) > maxIssuer || !secret.IsHeaderText(i.Name) {
		mistake("%s: want at most %d bytes of printable ASCII without blanks", n.name, maxIssuer)
	}
	if i.OIDC != "" && i.OIDC != i.Name {
		mistake("%s: want the same as %s, or only one of them", n.oidc, n.name)
	}
	if len(i.Audiences) == 0 && !i.AnyAudience {
		mistake("%s: it is missing, and there is no PUBLIC_URL to stand for it; want what the claim aud has to name", n.audience)
	}
	if slices.ContainsFunc(i.Audiences, func(a string) bool { return a == "" || a == "*" }) {
		mistake("%s: want names, not empty and not *", n.audience)
	}
	i.checkSource(n, mistake)
	fit := keyAlgorithms
	if !i.Secret.IsZero() {
		fit = secretAlgorithms
	}
	for _, alg := range i.Algorithms {
		if !slices.Contains(fit, alg) {
			mistake("%s: want algorithms that fit the source of keys: %s", n.algorithms, strings.Join(fit, ", "))
			break
		}
	}
}

// checkSource says what is wrong with where the keys come from.
func (i *Issuer) checkSource(n issuerNames, mistake func(format string, args ...any)) {
	sources := 0
	for _, given := range []bool{!i.Secret.IsZero(), i.JWKSFile != "", i.JWKSURL != "" && i.OIDC == "", i.OIDC != ""} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		mistake("%s: want one source of its keys: %s, %s, %s or %s", n.name, n.secret, n.file, n.url, n.oidc)
	}
	if !i.Secret.IsZero() && len(i.Secret.Reveal()) < minJWTSecret {
		mistake("%s: want at least %d bytes", n.secret, minJWTSecret)
	}
	for name, text := range map[string]string{n.url: i.JWKSURL, n.oidc: i.OIDC} {
		if _, ok := keyURL(text); text != "" && !ok {
			mistake("%s: want an https URL (http only on this machine) without user, query and fragment", name)
		}
	}
}

// furtherIssuer is an entry of ISSUERS.
type furtherIssuer struct {
	Issuer     string      `json:"issuer"`
	Audience   oneOrMore   `json:"audience"`
	Algorithms []string    `json:"algorithms"`
	Secret     secret.Text `json:"hs256_secret"`
	JWKSFile   string      `json:"jwks_file"`
	JWKSURL    string      `json:"jwks_url"`
	OIDC       bool        `json:"oidc"`
	RequireKID bool        `json:"require_kid"`
}

// oneOrMore is a list that may be written as its one text.
type oneOrMore []string

// UnmarshalJSON takes a text or a list of texts.
func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*o = make([]string, 1)
		return json.Unmarshal(b, &(*o)[0])
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// parseIssuers reads ISSUERS. Mistakes name an issuer by its number.
func parseIssuers(text secret.Text) ([]*Issuer, error) {
	if strings.TrimSpace(text.Reveal()) == "" {
		return nil, nil
	}
	var list []furtherIssuer
	wrapped := `{"issuers":` + text.Reveal() + `}` // decodeStrict takes objects
	if err := decodeStrict([]byte(wrapped), &struct {
		Issuers *[]furtherIssuer `json:"issuers"`
	}{&list}); err != nil {
		return nil, fault.New(fault.Invalid, "ISSUERS: "+strings.TrimPrefix(fault.From(err).Msg, "/issuers"))
	}
	if len(list) > maxIssuers {
		return nil, fault.Newf(fault.Invalid, "ISSUERS: want at most %d issuers", maxIssuers)
	}
	all := make([]*Issuer, len(list))
	for n, f := range list {
		all[n] = &Issuer{
			Name: f.Issuer, Audiences: f.Audience, Algorithms: f.Algorithms, Secret: f.Secret,
			JWKSFile: f.JWKSFile, JWKSURL: f.JWKSURL, RequireKID: f.RequireKID,
		}
		if f.OIDC {
			all[n].OIDC = f.Issuer
		}
	}
	return all, nil
}

// newJWTs makes what verifies JWTs, nil where none is accepted. The error joins
// all mistakes.
func newJWTs(opt JWTOptions, h *home, now func() time.Time) (*jwts, error) {
	if !opt.Accept {
		return nil, nil
	}
	j := &jwts{home: h, now: now, byName: map[string]*issuer{}}
	further, err := parseIssuers(opt.Further)
	mistakes := []error{err}
	seen := map[string]bool{}
	add := func(i *Issuer, n issuerNames, where string) {
		wrong := func(format string, args ...any) {
			mistakes = append(mistakes, fault.New(fault.Invalid, where+fmt.Sprintf(format, args...)))
		}
		checked := *i
		if len(i.Audiences) == 0 {
			checked.Audiences = opt.Audiences
		}
		before := len(mistakes)
		if checked.check(n, wrong); seen[i.Name] {
			wrong("%s: it was given before", n.name)
		}
		seen[i.Name] = true
		if len(mistakes) > before {
			return
		}
		made, err := newIssuer(checked, opt.CacheFor, now)
		if err != nil {
			wrong("%s: %s", n.file, fault.From(err).Msg)
			return
		}
		j.byName[i.Name] = made
		j.all = append(j.all, made)
		made.further = i != opt.Home
	}
	if opt.Home != nil {
		add(opt.Home, homeNames, "")
		if opt.Home.AnyIssuer && len(further) > 0 {
			mistakes = append(mistakes, fault.New(fault.Invalid, homeNames.check+": it can be off only where ISSUERS is empty: the claim iss tells issuers apart"))
		}
	}
	for n, i := range further {
		add(i, furtherNames, "ISSUERS: issuer "+strconv.Itoa(n+1)+": ")
	}
	if err := errors.Join(mistakes...); err != nil {
		j.close()
		return nil, err
	}
	if len(j.all) == 0 {
		return nil, nil
	}
	return j, nil
}

// newIssuer makes an issuer that was checked.
func newIssuer(i Issuer, cacheFor time.Duration, now func() time.Time) (*issuer, error) {
	made := &issuer{Issuer: i, methods: map[string]jwt.SigningMethod{}}
	algorithms := i.Algorithms
	switch {
	case len(algorithms) > 0:
	case i.Secret.IsZero():
		algorithms = keyAlgorithms
	default:
		algorithms = secretAlgorithms
	}
	for _, alg := range algorithms {
		made.methods[alg] = jwt.GetSigningMethod(alg)
	}
	options := []jwt.ParserOption{jwt.WithLeeway(leeway), jwt.WithTimeFunc(now), jwt.WithIssuedAt(), jwt.WithExpirationRequired()}
	if !i.AnyIssuer {
		options = append(options, jwt.WithIssuer(i.Name))
	}
	if !i.AnyAudience {
		options = append(options, jwt.WithAudience(i.Audiences...))
	}
	made.validator = jwt.NewValidator(options...)
	cacheFor = cmp.Or(cacheFor, 5*time.Minute)
	switch {
	case !i.Secret.IsZero(): // which is the key
	case i.JWKSFile != "":
		file, err := watchJWKS(i.JWKSFile)
		if err != nil {
			return nil, err
		}
		made.keys = fileKeys{file}
	case i.OIDC != "":
		made.keys = newRemoteKeys(cacheFor, fetchDiscovered(i.OIDC, i.JWKSURL))
	default:
		u, _ := keyURL(i.JWKSURL) // checked before
		made.keys = newRemoteKeys(cacheFor, fetchURL(u))
	}
	return made, nil
}
