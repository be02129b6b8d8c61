package tools

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/kmsx"
)

// PromptRequest asks for a prompt's text.
type PromptRequest struct {
	Principal   *auth.Principal
	Name        string
	Arguments   map[string]string
	Underscored bool   // how its caller's client spells tools
	Transport   string // as in Call
	Remote      string
	RequestID   string
}

// promptOperation stands for the name of a tool in records of Prompt.
const promptOperation = "prompts.get"

// VisiblePrompts lists the prompts that a principal may use now: those with a way
// of which it may call every tool.
func (r *Runner) VisiblePrompts(p *auth.Principal) []*Prompt {
	var seen []*Prompt
	if !p.Valid(r.opt.Now()) {
		return nil
	}
	for _, prompt := range r.catalog.Prompts() {
		if _, err := r.waysFor(prompt, p); err == nil {
			seen = append(seen, prompt)
		}
	}
	return seen
}

// Prompt is a prompt's text, with the arguments in it. It asks nothing of Vault or
// AWS KMS; it counts against the principal's limit and leaves one record. The error
// is a *fault.Error.
func (r *Runner) Prompt(ctx context.Context, req PromptRequest) (text string, err error) {
	if req.RequestID == "" {
		req.RequestID = NewRequestID()
	}
	prompt, unknown := r.catalog.prompt(req.Name)
	err = r.ask(ctx, asking{
		operation: promptOperation, principal: req.Principal,
		transport: req.Transport, remote: req.Remote, requestID: req.RequestID,
		args: r.hashedTexts(prompt, req.Arguments),
	}, func() (needs []string, err error) {
		if unknown != nil {
			return nil, unknown
		}
		text, err = r.fillPrompt(prompt, req)
		return []string{"prompt " + prompt.Name}, err
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// hashedTexts is the keyed hash of each of a prompt's arguments that was given.
func (r *Runner) hashedTexts(p *Prompt, args map[string]string) map[string]string {
	if p == nil {
		return nil
	}
	hashed := make(map[string]string, len(p.Arguments))
	for _, a := range p.Arguments {
		if value, given := args[a.Name]; given {
			hashed[a.Name] = r.trail.HMAC([]byte(value))
		}
	}
	return hashed
}

// fillPrompt checks the arguments of a prompt that the principal may use, and puts
// them into its text.
func (r *Runner) fillPrompt(p *Prompt, req PromptRequest) (string, error) {
	way, err := r.wayOf(p, req.Principal, req.Arguments) // before the arguments, as with a tool
	if err != nil {
		return "", err
	}
	known := 0
	for i := range p.Arguments {
		a := &p.Arguments[i]
		value, given := req.Arguments[a.Name]
		switch {
		case given:
			known++
			if err := r.checkArgument(a, way, value, req.Principal); err != nil {
				return "", err
			}
		case a.Required:
			return "", fault.Field("/"+a.Name, "is required")
		}
	}
	if known < len(req.Arguments) {
		return "", fault.New(fault.Invalid, "there is an argument that is not one of this prompt's: "+p.takes())
	}
	var text strings.Builder
	err = p.text.Execute(&text, &promptText{
		Way: p.Ways[way].Name, runner: r, principal: req.Principal, args: req.Arguments, underscored: req.Underscored,
	})
	if err != nil {
		return "", fault.Wrap(fault.Internal, fault.MsgInternal, err)
	}
	return strings.TrimSpace(text.String()) + "\n", nil
}

// checkArgument holds a value to its grammar and, where it names an object, to the
// principal's grants.
func (r *Runner) checkArgument(a *PromptArgument, way int, value string, p *auth.Principal) error {
	pointer := "/" + a.Name
	switch a.Form {
	case FormWay: // it chose the way
		return nil
	case FormDuration:
		if !durationForm.MatchString(value) {
			return fault.Field(pointer, "must be a duration, such as 30m or 2h")
		}
		return nil
	case FormDigest:
		if _, ok := digestHash(value); !ok {
			return fault.Field(pointer, "must be a digest of SHA-256, SHA-384 or SHA-512, in hexadecimal digits")
		}
		return nil
	}
	of := &a.of[way]
	if err := of.check(pointer, value); err != nil || of.path {
		return err
	}
	grants := p.Grants[auth.GrantKind(of.tool.Engine)]
	granted := func(name string) bool { return p.Grants.Allow(auth.GrantKind(of.tool.Engine), name) }
	if !granted(value) && (!of.tool.UsesKMS() || !kmsx.MayMatch(value, grants, granted)) {
		return ungranted(pointer)
	}
	return nil
}

// digestHash is the hash of which a text is a digest, by Vault's name.
func digestHash(digest string) (hash string, ok bool) {
	raw, err := hex.DecodeString(digest)
	if err != nil {
		return "", false
	}
	for _, hash := range []string{"sha2-256", "sha2-384", "sha2-512"} {
		if len(raw) == hashBytes[hash] {
			return hash, true
		}
	}
	return "", false
}

// promptText is what a prompt's template is executed with.
type promptText struct {
	Way string // the name of the chosen way

	runner      *Runner
	principal   *auth.Principal
	args        map[string]string
	underscored bool
}

// Tool is a tool's name as the caller's client spells it. A text that names one
// which its reader may not call is an error of ours: it asks May before, or the
// way takes it.
func (t *promptText) Tool(name string) (string, error) {
	tool, ok := t.runner.catalog.Lookup(name)
	if !ok || !t.May(name) {
		return "", fault.New(fault.Internal, "a prompt names a tool that its reader may not call")
	}
	if t.underscored {
		return tool.Underscored(), nil
	}
	return tool.Name, nil
}

// May reports whether the reader may call a tool.
func (t *promptText) May(name string) bool {
	tool, ok := t.runner.catalog.Lookup(name)
	return ok && t.runner.access.Permit(tool, t.principal) == nil
}

// Has reports whether an argument was given.
func (t *promptText) Has(name string) bool { _, ok := t.args[name]; return ok }

// Arg is an argument in quotes; its grammar has none.
func (t *promptText) Arg(name string) string { return strconv.Quote(t.args[name]) }

// URI is that of the resource whose path an argument is.
func (t *promptText) URI(name string) string {
	return strconv.Quote(Resource{Subject: t.principal.Slug, Path: t.args[name]}.String())
}

// Base64 is an argument of FormDigest as tools take it.
func (t *promptText) Base64(name string) string {
	raw, _ := hex.DecodeString(t.args[name]) // seen when it was checked
	return strconv.Quote(base64.StdEncoding.EncodeToString(raw))
}

// Hash is the hash of an argument of FormDigest; without it, the usual one.
func (t *promptText) Hash(name string) string {
	hash, ok := digestHash(t.args[name])
	if !ok {
		return "sha2-256"
	}
	return hash
}

// Bits are the bits of that hash.
func (t *promptText) Bits(name string) string {
	hash := t.Hash(name)
	return hash[slices.Index([]byte(hash), '-')+1:]
}
