package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// supposition is the identity that the doctor is asked about, or for which a
// policy is made.
type supposition struct {
	subject, source, issuer string
	claims, names           []string
}

// flags adds what tells of an identity to the doctor's flags.
func (s *supposition) flags(flags *pflag.FlagSet) {
	flags.StringVar(&s.subject, "subject", "", "explain what this subject could do, and by which rule, instead of looking for what is wrong")
	s.credentialFlags(flags)
}

// credentialFlags adds what tells by which credential a subject calls.
func (s *supposition) credentialFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.source, "source", "", "with --subject: by which credential, api_key, jwt, mtls or launch (default api_key; jwt with --issuer or --claim, mtls with --certificate)")
	flags.StringVar(&s.issuer, "issuer", "", "with --subject: of which further issuer of tokens")
	flags.StringArrayVar(&s.claims, "claim", nil, "with --subject: a claim of its token, as name=value or /json/pointer=value; repeatable")
	flags.StringArrayVar(&s.names, "certificate", nil, "with --subject: a name in its certificate, as uri:spiffe://td/a, dns:a.example or cn:a; repeatable")
}

// asked reports whether the flags tell of an identity.
func (s *supposition) asked(cmd *cobra.Command) bool {
	return slices.ContainsFunc([]string{"subject", "source", "issuer", "claim", "certificate"}, cmd.Flags().Changed)
}

// given reports whether anything tells of a credential.
func (s *supposition) given() bool {
	return s.source != "" || s.issuer != "" || len(s.claims) > 0 || len(s.names) > 0
}

// identity is what the flags say, once they are found to fit together.
func (s *supposition) identity() (auth.Identity, error) {
	id := auth.Identity{Subject: s.subject, Issuer: s.issuer, Names: s.names}
	switch {
	case s.source != "":
		id.Method = auth.Method(s.source)
	case s.issuer != "" || len(s.claims) > 0:
		id.Method = auth.MethodJWT
	case len(s.names) > 0:
		id.Method = auth.MethodMTLS
	default:
		id.Method = auth.MethodAPIKey
	}
	switch {
	case !slices.Contains([]auth.Method{auth.MethodAPIKey, auth.MethodJWT, auth.MethodMTLS, auth.MethodLaunch}, id.Method):
		return id, usage("--source must be api_key, jwt, mtls or launch")
	case id.Method != auth.MethodJWT && (s.issuer != "" || len(s.claims) > 0):
		return id, usage("--issuer and --claim are of the source jwt")
	case id.Method != auth.MethodMTLS && len(s.names) > 0:
		return id, usage("--certificate is of the source mtls")
	}
	pairs := make([][2]string, len(s.claims))
	for i, claim := range s.claims {
		name, value, ok := strings.Cut(claim, "=")
		if !ok {
			return id, usage("--claim: want name=value")
		}
		pairs[i] = [2]string{name, value}
	}
	claims, err := auth.ClaimsOf(pairs)
	if err != nil {
		return id, usage("--claim: %s", fault.From(err).Msg)
	}
	id.Claims = claims
	return id, nil
}

// diagnosis is what one credential of a subject could do.
type diagnosis struct {
	Subject    string          `json:"subject"`
	Source     auth.Method     `json:"source"`
	Issuer     string          `json:"issuer,omitempty"`
	Credential string          `json:"credential"`
	Rule       string          `json:"rule,omitempty"` // its name, else its number
	Refused    string          `json:"refused,omitempty"`
	Slug       string          `json:"slug,omitempty"`
	Prefix     string          `json:"prefix,omitempty"`
	Policy     string          `json:"policy,omitempty"`
	Scopes     []auth.Scope    `json:"scopes,omitempty"`
	Ceiling    []auth.Scope    `json:"ceiling,omitempty"`
	Grants     auth.Grants     `json:"grants,omitempty"`
	Limit      *diagnosedLimit `json:"limit,omitempty"`
	Expires    time.Time       `json:"expires_at,omitzero"`
	Binds      bool            `json:"bind_ciphertexts,omitempty"`
	Tools      []diagnosedTool `json:"tools,omitempty"`
}

type diagnosedLimit struct {
	Requests int `json:"requests"`
	Seconds  int `json:"window_seconds"`
	Burst    int `json:"burst"`
}

type diagnosedTool struct {
	Tool      string `json:"tool"`
	Permitted bool   `json:"permitted"`
	Why       string `json:"why,omitempty"` // why not, or what it still lacks
}

// explain says what a subject could do. It asks nobody: what counts is what the
// settings say.
func (o *options) explain(s *supposition, asJSON bool) error {
	if s.subject == "" {
		return usage("--subject is needed: about whom is the question?")
	}
	id, err := s.identity()
	if err != nil {
		return err
	}
	cfg, err := o.load()
	if err != nil {
		return err
	}
	if _, err := usable(cfg); err != nil {
		return err
	}
	authn, err := openAuth(cfg)
	if err != nil {
		return usageError{err}
	}
	access, err := tools.NewAccess(theCatalog(), offer(cfg), cfg.KMS.Enabled)
	if err != nil {
		return usageError{err}
	}
	explained, err := authn.Explain(id)
	if err != nil {
		return usageError{errors.New(fault.From(err).Msg)}
	}
	diagnoses, refused := make([]diagnosis, len(explained)), true
	for i := range explained {
		diagnoses[i] = diagnose(&explained[i], theCatalog(), access, cfg)
		refused = refused && diagnoses[i].Refused != ""
	}
	if asJSON {
		err = writeJSON(o.out, diagnoses)
	} else {
		err = printDiagnoses(o.out, diagnoses)
	}
	if err == nil && refused {
		return errors.New("every call of this subject would be refused")
	}
	return err
}

func diagnose(e *auth.Explanation, c *tools.Catalog, access *tools.Access, cfg *config.Config) diagnosis {
	d := diagnosis{
		Subject: e.Identity.Subject, Source: e.Identity.Method, Issuer: e.Identity.Issuer, Rule: e.Rule,
		Credential: cmp.Or(e.Identity.CredentialID, "a supposed one, with all scopes"),
	}
	if !e.Supposed && e.Identity.Method == auth.MethodLaunch {
		d.Credential = "this process's own"
	}
	if e.Refusal != nil {
		d.Refused = fault.From(e.Refusal).Msg
		return d
	}
	p := e.Principal
	d.Slug, d.Prefix, d.Policy, d.Scopes, d.Ceiling = p.Slug, p.Prefix, p.Policy(cfg.Child.PolicyPrefix), p.Scopes, p.Ceiling
	d.Grants, d.Expires, d.Binds = p.Grants, p.ExpiresAt, p.BindCiphertexts || cfg.KMS.SubjectContext
	if p.Limit != (auth.Limit{}) {
		d.Limit = &diagnosedLimit{p.Limit.Requests, int(p.Limit.Window / time.Second), cmp.Or(p.Limit.Burst, p.Limit.Requests)}
	}
	if !p.Valid(time.Now()) {
		d.Refused = "the credential has expired"
		return d
	}
	for _, t := range c.Tools() {
		entry := diagnosedTool{Tool: t.Name}
		if err := access.Permit(t, p); err != nil {
			entry.Why = fault.From(err).Msg
		} else {
			entry.Permitted, entry.Why = true, lacking(t, p)
		}
		d.Tools = append(d.Tools, entry)
	}
	return d
}

// lacking says what a tool that is permitted is of no use without.
func lacking(t *tools.Tool, p *auth.Principal) string {
	if t.NamesObjects() && len(p.Grants[auth.GrantKind(t.Engine)]) == 0 {
		return "but there is no grant of anything that it could be called with"
	}
	return ""
}

func printDiagnoses(w io.Writer, all []diagnosis) error {
	for i := range all {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		if err := all[i].print(w); err != nil {
			return err
		}
	}
	return nil
}

func (d *diagnosis) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", name, printable(value))
		}
	}
	row("subject", d.Subject)
	row("source", string(d.Source))
	row("issuer", d.Issuer)
	row("credential", d.Credential)
	row("rule", cmp.Or(d.Rule, "none"))
	row("refused", d.Refused)
	if d.Refused == "" {
		row("slug", d.Slug)
		row("prefix", d.Prefix)
		row("policy", d.Policy)
		row("scopes", dash(joined(d.Scopes)))
		row("ceiling", dash(joined(d.Ceiling)))
		for _, engine := range slices.Sorted(maps.Keys(d.Grants)) {
			row("grants", engine+": "+strings.Join(d.Grants[engine], ", "))
		}
		row("limit", d.Limit.String())
		if !d.Expires.IsZero() {
			row("expires", stamp(d.Expires))
		}
		for _, t := range d.Tools {
			state := "refused: "
			if t.Permitted {
				state = strings.TrimSuffix("permitted, "+t.Why, ", ")
				t.Why = ""
			}
			_, _ = fmt.Fprintf(tw, "%s\t%s%s\n", t.Tool, state, t.Why)
		}
	}
	return tw.Flush()
}

// String is a limit for people.
func (l *diagnosedLimit) String() string {
	if l == nil {
		return "none"
	}
	return fmt.Sprintf("%d calls in %d seconds, %d at once", l.Requests, l.Seconds, l.Burst)
}

func joined(scopes []auth.Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}
