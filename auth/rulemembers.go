package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"vault-mcp/fault"
)

// match reads what the rule matches.
func (r *ruleReader) match() {
	d, to := &r.doc, r.rule
	if to.name = r.text("name", d.name); to.name != "" &&
		(len(to.name) > maxRuleName || strings.Trim(to.name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" || strings.Trim(to.name, "0123456789") == "") {
		r.wrong("name", fmt.Sprintf("want 1 to %d of a-z 0-9 . _ -, and not digits alone", maxRuleName))
	}
	to.source = Method(r.text("source", d.source))
	if to.source != "" && !slices.Contains([]Method{MethodAPIKey, MethodJWT, MethodMTLS, MethodLaunch}, to.source) {
		r.wrong("source", "want one of api_key, jwt, mtls, launch")
		to.source = ""
	}
	if to.issuer = r.text("issuer", d.issuer); to.issuer != "" && to.issuer == r.opt.HomeIssuer {
		r.wrong("issuer", "is the operator's own, which no rule names: leave the member out, and say source = jwt")
	}
	to.subject = r.pattern("subject", d.subject)
	if to.subject != nil && len(to.subject.stem) > maxSubject {
		r.wrong("subject", fmt.Sprintf("no subject has over %d bytes", maxSubject))
	}
	to.keyID = r.text("key_id", d.keyID)
	to.certificate = r.pattern("certificate", d.certificate)
	if to.certificate != nil && !slices.ContainsFunc([]string{"uri:", "dns:", "cn:"}, func(kind string) bool { return strings.HasPrefix(to.certificate.stem, kind) }) {
		r.wrong("certificate", "want a name that begins with uri:, dns: or cn:")
	}
	r.claim()
	for member, method := range map[string]Method{"key_id": MethodAPIKey, "claim": MethodJWT, "issuer": MethodJWT, "certificate": MethodMTLS} {
		if r.given[member] && to.source != "" && to.source != method {
			r.wrong(member, "is only of the source "+string(method))
		}
	}
	matches := slices.ContainsFunc([]string{"source", "issuer", "subject", "claim", "key_id", "certificate"}, func(member string) bool { return r.given[member] })
	switch {
	case d.any && matches:
		r.wrong("any", "stands alone: it matches everybody of the operator's own")
	case !d.any && !matches && len(r.errors) == 0: // else what was to match may be what is wrong
		r.wrong("", "it matches nobody: want one of source, issuer, subject, claim, key_id, certificate, or any = true")
	}
}

func (r *ruleReader) claim() {
	if !r.given["claim"] {
		return
	}
	path, ok := claimPath(r.doc.claim.Name)
	if !ok || len(r.doc.claim.Name) > maxLiteral {
		r.wrong("claim/name", "want the name of a claim, or a JSON pointer to it")
	}
	r.rule.claim = &claimRule{path: path}
	value := r.doc.claim.Value
	switch value.Kind() {
	case '"':
		var text string
		if json.Unmarshal(value, &text) == nil && text != "" && len(text) <= maxLiteral {
			r.rule.claim.value = text
		}
	case 't', 'f':
		r.rule.claim.value = value.Kind() == 't'
	default: // told below
	}
	if r.rule.claim.value == nil {
		r.wrong("claim/value", "want a text that is not empty, true or false")
	}
}

// outcome reads what comes of a match.
func (r *ruleReader) outcome() {
	d, to := &r.doc, r.rule
	to.disabled, to.shared, to.bind = d.disabled, d.shared, d.bind
	r.prefix()
	if r.given["scopes"] {
		ceiling, err := ParseScopes(d.scopes)
		if err != nil {
			r.wrong("scopes", fault.From(err).Msg)
		}
		to.ceiling = ceiling
	}
	r.grants()
	if r.given["rate_limit"] {
		to.limit = &Limit{Requests: d.limit.Requests, Window: time.Duration(d.limit.Seconds) * time.Second, Burst: d.limit.Burst}
		if d.limit.Requests < 1 || d.limit.Requests > 1_000_000 || d.limit.Seconds < 1 || d.limit.Seconds > 86_400 || d.limit.Burst < 0 || d.limit.Burst > 1_000_000 {
			r.wrong("rate_limit", "want requests from 1 to 1000000, window_seconds from 1 to 86400, and perhaps burst from 1 to 1000000")
		}
	}
	r.entries("toolsets", d.toolsets, r.opt.Toolset, "toolset")
	r.entries("tools", d.tools, r.opt.Tool, "tool and no engine")
	r.entries("exclude", d.exclude, func(entry string) bool { return r.opt.Tool(entry) || r.opt.Toolset(entry) }, "tool, no engine and no toolset")
	to.tools = ToolFilter{Only: slices.Concat(d.toolsets, d.tools), Except: d.exclude}
}

func (r *ruleReader) prefix() {
	to := r.rule
	if !r.given["prefix"] {
		if to.issuer != "" && !to.disabled {
			r.wrong("", "it is about a further issuer and gives no prefix, which has to be one of its own")
		}
		return
	}
	t, want := parseTemplate(r.doc.prefix)
	one := to.subject != nil && !to.subject.open
	switch {
	case want != "":
		r.wrong("prefix", want)
	case t.hole() < 0 && !one && !to.shared:
		r.wrong("prefix", "would be shared by all whom the rule matches; want {slug} as a part of it, or shared = true")
	default:
		to.prefix = t
	}
}

// grants reads the grants. After {slug} comes the end or "--", since no slug has
// that in it: what else followed could be the rest of another's.
func (r *ruleReader) grants() {
	if !r.given["grants"] {
		return
	}
	if err := r.doc.grants.check(); err != nil {
		r.wrong("grants", fault.From(err).Msg)
		return
	}
	for _, engine := range slices.Sorted(maps.Keys(r.doc.grants)) {
		patterns := r.doc.grants[engine]
		if len(patterns) > maxEntries {
			r.wrong("grants/"+engine, fmt.Sprintf("has over %d entries", maxEntries))
		}
		for i, pattern := range patterns {
			before, after, has := strings.Cut(pattern, slugHole)
			switch {
			case !has && strings.ContainsAny(pattern, "{}"), strings.ContainsAny(before+after, "{}"):
				r.wrong(fmt.Sprintf("grants/%s/%d", engine, i), "has braces that are not those of one {slug}")
			case has && after != "" && !strings.HasPrefix(after, "--"):
				r.wrong(fmt.Sprintf("grants/%s/%d", engine, i), "goes on after {slug} with what another slug could go on with; want nothing there, or -- and more")
			case has && r.rule.issuer != "" && (before == "" || engine == "kms" && before == "alias/"):
				r.wrong(fmt.Sprintf("grants/%s/%d", engine, i), "would be what the operator's own principal of this name has; want something before {slug}")
			}
		}
	}
	r.rule.grants = r.doc.grants
}

// entries checks a list of tools.
func (r *ruleReader) entries(member string, list []string, known func(string) bool, what string) {
	switch {
	case !r.given[member]:
		return
	case len(list) == 0 || len(list) > maxEntries:
		r.wrong(member, fmt.Sprintf("want 1 to %d entries, or no such member", maxEntries))
	}
	for i, entry := range list {
		if !known(entry) {
			r.wrong(fmt.Sprintf("%s/%d", member, i), "names no "+what)
		}
	}
}
