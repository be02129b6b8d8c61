package tools

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// Bounds of completions.
const (
	MaxCompletions = 100  // values in one answer, the protocol's
	maxTyped       = 1024 // bytes of a value that is to be completed
)

// Completion asks what a value that is being typed may become.
type Completion struct {
	Principal *auth.Principal
	Prompt    string            // whose argument it is; or
	Resource  string            // the template of URIs whose variable it is
	Argument  string            // the argument's or variable's name
	Value     string            // as far as it is typed
	Given     map[string]string // other arguments that are known already
	Transport string            // as in Call
	Remote    string
	RequestID string
}

// Completed are values that begin with what was typed: the first MaxCompletions of
// them.
type Completed struct {
	Values []string
	Total  int
}

// completeOperation stands for the name of a tool in records of Complete, where it
// runs none.
const completeOperation = "completion"

// Complete completes a value. Paths come from the tool that lists, one folder of
// one call, and versions from the one that describes: through Run, so within the
// caller's scopes, limit and prefix. All else comes from declarations and from the
// literal names in the principal's grants, asks nothing of Vault, counts against
// the limit all the same and leaves a record of its own.
//
// What there is not (a prompt, an argument, a folder) is completed by nothing.
// What the caller may not do, and a value that can become none, is refused: the
// error is a *fault.Error.
func (r *Runner) Complete(ctx context.Context, c Completion) (Completed, error) {
	if c.RequestID == "" {
		c.RequestID = NewRequestID()
	}
	var values []string
	from, err := r.completer(&c)
	if err == nil && from.ask != nil {
		values, err = from.ask(ctx)
	} else {
		err = r.ask(ctx, asking{
			operation: completeOperation, principal: c.Principal, transport: c.Transport, remote: c.Remote, requestID: c.RequestID,
			args: map[string]string{"value": r.trail.HMAC([]byte(c.Value))},
		}, func() ([]string, error) { return from.about, err })
		values = from.offers
	}
	if err != nil {
		if errors.Is(err, fault.NotFound) {
			return Completed{Values: []string{}}, nil
		}
		return Completed{}, err
	}
	fits := make([]string, 0, min(len(values), MaxCompletions))
	for _, value := range values {
		if strings.HasPrefix(value, c.Value) {
			fits = append(fits, value)
		}
	}
	return Completed{Values: fits[:min(len(fits), MaxCompletions)], Total: len(fits)}, nil
}

// completer is where completions come from: a tool that is asked, or values that
// are known.
type completer struct {
	about  []string // what the record says, of names of ours
	offers []string
	ask    func(ctx context.Context) ([]string, error)
}

// completer finds what completes a value. With an error, too, it says what the value
// is about. A principal that is not present completes nothing, which ask refuses.
func (r *Runner) completer(c *Completion) (from completer, err error) {
	switch {
	case !c.Principal.Valid(r.opt.Now()):
		return from, fault.New(fault.Unauthenticated, "the credential is missing or has expired")
	case len(c.Value) > maxTyped:
		return from, fault.Field("/argument/value", "must have at most "+strconv.Itoa(maxTyped)+" bytes")
	case c.Prompt != "":
		return r.promptCompleter(c)
	case c.Resource == ResourceTemplate:
		return r.resourceCompleter(c)
	}
	return from, fault.New(fault.NotFound, "there is no such template of resources")
}

// promptCompleter completes an argument of a prompt that the principal may use.
func (r *Runner) promptCompleter(c *Completion) (from completer, err error) {
	prompt, err := r.catalog.prompt(c.Prompt)
	if err != nil {
		return from, err
	}
	from.about = []string{"complete " + prompt.Name}
	may, err := r.waysFor(prompt, c.Principal)
	if err != nil {
		return from, err
	}
	a := prompt.argument(c.Argument)
	if a == nil {
		return from, fault.New(fault.NotFound, "the prompt has no such argument")
	}
	from.about[0] += " " + a.Name
	switch a.Form {
	case FormWay:
		for _, way := range may {
			from.offers = append(from.offers, prompt.Ways[way].Name)
		}
		return from, nil
	case FormDuration:
		from.offers = usualDurations
		return from, nil
	case FormDigest:
		return from, nil
	}
	way, err := r.wayOf(prompt, c.Principal, c.Given)
	if err != nil {
		return from, err
	}
	if of := &a.of[way]; !of.path {
		from.offers = slices.Compact(slices.Sorted(slices.Values(of.granted(c.Principal))))
		return from, nil
	}
	return r.pathCompleter(from, c, Resource{Subject: c.Principal.Slug})
}

// resourceCompleter completes a variable of ResourceTemplate.
func (r *Runner) resourceCompleter(c *Completion) (from completer, err error) {
	from.about = []string{"complete " + ResourceTemplate}
	of := Resource{Subject: c.Principal.Slug}
	if slug, given := c.Given["subject"]; given && c.Argument != "subject" {
		if of.Subject = unescapeSubject(slug); !isSegment(of.Subject) {
			return from, fault.Field("/context/arguments/subject", "must be a subject, as whoami shows it")
		}
	}
	switch c.Argument {
	case "subject":
		from.offers = []string{c.Principal.Slug}
		return from, nil
	case "path":
		return r.pathCompleter(from, c, of)
	case "version":
		return r.versionCompleter(from, c, of)
	}
	return from, fault.New(fault.NotFound, "the template has no such variable")
}

// pathCompleter completes a path of a subject by what is in its folder.
func (r *Runner) pathCompleter(from completer, c *Completion, of Resource) (completer, error) {
	if err := vaultx.CheckListPrefix(c.Value); err != nil {
		return from, fault.Field("/argument/value", fault.From(err).Msg)
	}
	folder := c.Value[:strings.LastIndexByte(c.Value, '/')+1]
	of.Path, of.Folder = strings.TrimSuffix(folder, "/"), true
	relative, err := r.locate(c.Principal, of)
	if err != nil {
		return from, err
	}
	from.ask = func(ctx context.Context) ([]string, error) {
		var listed kvListOut
		if err := r.runFor(ctx, c, ResourceList, map[string]string{"prefix": relative}, &listed); err != nil {
			return nil, err
		}
		var paths []string
		for _, key := range listed.Keys {
			// What others wrote into Vault may have a name that no path here can
			// have, or be too long for one.
			if key != "" && vaultx.CheckListPrefix(folder+key) == nil && vaultx.CheckListPrefix(join(relative, key)) == nil {
				paths = append(paths, folder+key)
			}
		}
		return slices.Compact(slices.Sorted(slices.Values(paths))), nil
	}
	return from, nil
}

// versionCompleter completes the version of a secret by those that can be read,
// newest first.
func (r *Runner) versionCompleter(from completer, c *Completion, of Resource) (completer, error) {
	path, given := c.Given["path"]
	if !given || path == "" || strings.HasSuffix(path, "/") { // of a folder there are none
		return from, nil
	}
	if err := vaultx.CheckPath(path); err != nil {
		return from, fault.Field("/context/arguments/path", fault.From(err).Msg)
	}
	if strings.Trim(c.Value, "0123456789") != "" {
		return from, fault.Field("/argument/value", "must be the number of a version")
	}
	of.Path = path
	relative, err := r.locate(c.Principal, of)
	if err != nil {
		return from, err
	}
	from.ask = func(ctx context.Context) ([]string, error) {
		var secret kvMetadataOut
		if err := r.runFor(ctx, c, ResourceDescribe, map[string]string{"path": relative}, &secret); err != nil {
			return nil, err
		}
		var numbers []string
		for _, v := range slices.Backward(secret.Versions) {
			if !v.Destroyed && !r.deleted(v.DeletionTime) {
				numbers = append(numbers, strconv.Itoa(v.Version))
			}
		}
		return numbers, nil
	}
	return from, nil
}

// deleted reports whether a version's time has come.
func (r *Runner) deleted(deletion string) bool {
	at, err := time.Parse(time.RFC3339Nano, deletion)
	return err == nil && !at.After(r.opt.Now())
}

// runFor runs the tool that serves resources in a way, for a completion.
func (r *Runner) runFor(ctx context.Context, c *Completion, use ResourceUse, args map[string]string, out any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return fault.Wrap(fault.Internal, fault.MsgInternal, err)
	}
	res, err := r.Run(ctx, Call{
		Tool: r.catalog.serving(use), Principal: c.Principal, Args: raw,
		Transport: c.Transport, Remote: c.Remote, RequestID: c.RequestID,
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(res.JSON, out); err != nil {
		return fault.Wrap(fault.Internal, fault.MsgInternal, errors.New("a tool's result is not what its schema says"))
	}
	return nil
}
