package tools

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// Prompt is a task that a person hands to a model: a text that says which tools to
// use for it and how. The exported fields are its declaration, completed by
// Catalog.definePrompts. It gives no right: each call is held against the caller's
// own as any other.
type Prompt struct {
	Name      string // as clients show it, perhaps as a command
	Title     string // for people
	Doc       string // for people: what it has a model do
	Arguments []PromptArgument
	Ways      []PromptWay // to do it; the first one that the caller may go is the default
	Text      string      // a text/template, executed with a promptText

	text *template.Template
}

// PromptWay is one way to do what a prompt is for.
type PromptWay struct {
	Name  string   // what the argument of FormWay says to choose it; empty where there is no choice
	Tools []string // that it takes; who may not call all of them is not offered it

	tools []*Tool
}

// PromptArgument is an argument of a prompt. Every one has a grammar, so that none
// can hold an instruction.
type PromptArgument struct {
	Name     string
	Doc      string
	Required bool

	// Of are the arguments of tools that it stands for, as tool/argument, one for
	// each way; it has their grammar, needs their grant and is completed by what they
	// name. Without them it has a form of its own.
	Of   []string
	Form PromptForm

	of []toolArgument // by way
}

// toolArgument is an argument of a tool, and what a need of it names by it.
type toolArgument struct {
	tool *Tool
	arg  *argument
	path bool // a path; else an object that the principal must have been granted
}

// PromptForm is a form of a prompt's argument.
type PromptForm string

// The forms.
const (
	FormWay      PromptForm = "way"      // the name of one of the prompt's ways
	FormDuration PromptForm = "duration" // such as 30m
	FormDigest   PromptForm = "digest"   // SHA-2, in hexadecimal digits
)

var durationForm = regexp.MustCompile(`^[1-9][0-9]{0,6}[smh]$`)

// usualDurations are offered for one.
var usualDurations = []string{"15m", "1h", "4h", "8h"}

// definePrompts completes prompts and adds them. A mistake in one panics, as with a
// tool.
func (c *Catalog) definePrompts(prompts ...*Prompt) {
	for _, p := range prompts {
		mustDeclare(p.Name, p.Title != "" && p.Doc != "" && len(p.Ways) > 0, "wants a title, a doc and a way")
		p.text = template.Must(template.New(p.Name).Parse(p.Text))
		for i := range p.Ways {
			for _, name := range p.Ways[i].Tools {
				t, ok := c.Lookup(name)
				mustDeclare(p.Name, ok, "takes a tool that there is not: "+name)
				p.Ways[i].tools = append(p.Ways[i].tools, t)
			}
			mustDeclare(p.Name, len(p.Ways[i].tools) > 0, "has a way without tools")
		}
		for i := range p.Arguments {
			c.defineArgument(p, &p.Arguments[i])
		}
		c.prompts = append(c.prompts, p)
	}
}

func (c *Catalog) defineArgument(p *Prompt, a *PromptArgument) {
	mustDeclare(p.Name, a.Doc != "", "wants a doc on "+a.Name)
	switch a.Form {
	case FormWay, FormDuration, FormDigest:
		mustDeclare(p.Name, a.Of == nil, "has two forms for "+a.Name)
		return
	}
	mustDeclare(p.Name, len(a.Of) == len(p.Ways), "wants, for each way, what stands for "+a.Name)
	for i, of := range a.Of {
		named, name, _ := strings.Cut(of, "/")
		t, ok := c.Lookup(named)
		mustDeclare(p.Name, ok && slices.Contains(p.Ways[i].tools, t), "has an argument of a tool that its way does not take: "+of)
		arg, path, ok := t.names(name)
		mustDeclare(p.Name, ok, "has an argument that names nothing: "+of)
		a.of = append(a.of, toolArgument{t, arg, path})
	}
}

// names finds the argument of a tool that names a secret, by its path, or an object
// of which one must have been granted the name.
func (t *Tool) names(name string) (a *argument, path, ok bool) {
	at := slices.IndexFunc(t.input.args, func(a argument) bool { return a.name == name })
	if at < 0 {
		return nil, false, false
	}
	a = &t.input.args[at]
	for i := range t.Needs {
		if len(t.Needs[i].KMS) > 0 && name == keyHole {
			return a, false, true
		}
		for _, filled := range t.Needs[i].filled {
			if t.input.holes[filled.Name].pointer == a.pointer {
				return a, filled.Multi, true
			}
		}
	}
	return nil, false, false
}

// check holds a value to the grammar of what it names. The error names pointer.
func (a *toolArgument) check(pointer, value string) error {
	if a.arg.accepts != nil {
		if err := a.arg.accepts(value); err != nil {
			return fault.Field(pointer, fault.From(err).Msg)
		}
		return nil
	}
	if err := vaultx.CheckName(value); !a.path && err != nil { // a name that a schema lets pass is refused where it is used
		return fault.Field(pointer, fault.From(err).Msg)
	}
	return a.arg.rules().check(pointer, value)
}

// granted are the names in a principal's grants that the argument takes, without
// those that stand for many.
func (a *toolArgument) granted(p *auth.Principal) []string {
	var names []string
	for _, name := range p.Grants[auth.GrantKind(a.tool.Engine)] {
		if !strings.HasSuffix(name, "*") && a.check("", name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// Prompts lists the prompts in the order of declaration. The slice is shared.
func (c *Catalog) Prompts() []*Prompt { return c.prompts }

// prompt finds a prompt. That there is none is an error of kind NotFound.
func (c *Catalog) prompt(name string) (*Prompt, error) {
	for _, p := range c.prompts {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no such prompt")
}

// argument finds an argument by its name, nil if it has none of it.
func (p *Prompt) argument(name string) *PromptArgument {
	for i := range p.Arguments {
		if p.Arguments[i].Name == name {
			return &p.Arguments[i]
		}
	}
	return nil
}

// takes are the names of the arguments.
func (p *Prompt) takes() string {
	names := make([]string, len(p.Arguments))
	for i := range p.Arguments {
		names[i] = p.Arguments[i].Name
	}
	return "it takes " + strings.Join(names, ", ")
}

// permitWay says whether a principal may call all that a way takes.
func (a *Access) permitWay(w *PromptWay, p *auth.Principal) error {
	for _, t := range w.tools {
		if err := a.Permit(t, p); err != nil {
			return err
		}
	}
	return nil
}

// waysFor are the ways of a prompt that a principal may go. If there is none, the
// error says why not the first.
func (r *Runner) waysFor(p *Prompt, who *auth.Principal) ([]int, error) {
	var ways []int
	var first error
	for i := range p.Ways {
		switch err := r.access.permitWay(&p.Ways[i], who); {
		case err == nil:
			ways = append(ways, i)
		case first == nil:
			first = err
		}
	}
	if len(ways) == 0 {
		return nil, first
	}
	return ways, nil
}

// wayOf is the way that arguments choose: the one that is named, else the first of
// those that the caller may go.
func (r *Runner) wayOf(p *Prompt, who *auth.Principal, args map[string]string) (int, error) {
	may, err := r.waysFor(p, who)
	if err != nil {
		return 0, err
	}
	for _, a := range p.Arguments {
		name, given := args[a.Name]
		if a.Form != FormWay || !given {
			continue
		}
		at := slices.IndexFunc(p.Ways, func(w PromptWay) bool { return w.Name == name })
		if at < 0 {
			return 0, fault.Field("/"+a.Name, "must be one of "+strings.Join(p.wayNames(), ", "))
		}
		return at, r.access.permitWay(&p.Ways[at], who)
	}
	return may[0], nil
}

func (p *Prompt) wayNames() []string {
	names := make([]string, len(p.Ways))
	for i := range p.Ways {
		names[i] = p.Ways[i].Name
	}
	return names
}

// Offers says in words what an argument is completed by, for documents.
func (a *PromptArgument) Offers(p *Prompt) string {
	switch {
	case a.Form == FormWay:
		return strings.Join(p.wayNames(), ", ")
	case a.Form == FormDuration:
		return strings.Join(usualDurations, ", ")
	case a.Form == FormDigest:
		return "nothing"
	case a.of[0].path:
		return "the caller's own paths, folder by folder"
	}
	kinds := make([]string, 0, len(a.of))
	for i := range a.of {
		kinds = append(kinds, auth.GrantKind(a.of[i].tool.Engine))
	}
	return fmt.Sprintf("the names in the caller's grants of %s that have no *", strings.Join(kinds, " or "))
}
