package server

import (
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of a prompts/get and a completion/complete, whose arguments are short texts.
const (
	maxPromptMessage = 64 << 10 // bytes
	maxTexts         = 32       // arguments
)

// What is said of params in more than one method.
const (
	msgLookalike = "the params have a member that resembles one of the protocol's"
	msgName      = "params.name must be a string, and not too long"
	msgResponses = "params.inputResponses must be an object, params.requestState a string"
)

// promptParams are the params of those two methods besides the name, raw. They
// point into the message.
type promptParams struct{ arguments, ref, argument, context []byte }

// keep reads one value and keeps it for conclude.
func (g *gate) keep(v *[]byte) (err error) {
	*v, err = g.value()
	return err
}

// checkPrompt holds a prompts/get or a completion/complete to the types that the SDK
// decodes their params into: it repeats what does not fit.
func (g *gate) checkPrompt() {
	switch p := &g.prompt; {
	case len(g.data) > maxPromptMessage:
		g.fail(codeInvalidRequest, "a request for a prompt or a completion is larger than 64 KiB")
	case g.params.lookalike:
		g.fail(codeInvalidParams, msgLookalike)
	case g.frame.Method == methodComplete:
		g.checkCompletion()
	case g.name == nil:
		g.fail(codeInvalidParams, msgName)
	case p.arguments != nil && !areTexts(p.arguments):
		g.fail(codeInvalidParams, "params.arguments must be an object of strings, and of not too many")
	case g.params.responses, g.params.state:
		g.fail(codeInvalidParams, msgResponses)
	}
}

func (g *gate) checkCompletion() {
	p := &g.prompt
	ref, argument, others := membersOf(p.ref), membersOf(p.argument), membersOf(p.context)
	switch {
	case !isReference(ref):
		g.fail(codeInvalidParams, "params.ref must be of type ref/prompt with a name, or of type ref/resource with a uri, and these not too long")
	case !isName(argument["name"]) || !isString(argument["value"]):
		g.fail(codeInvalidParams, "params.argument must have a name and a value, both strings, and the name not too long")
	case p.context != nil && others == nil || others["arguments"] != nil && !areTexts(others["arguments"]):
		g.fail(codeInvalidParams, "params.context must be an object, and its arguments an object of strings, and of not too many")
	}
}

// isReference accepts a reference to a prompt or to a template of resources, and
// none that is half of each.
func isReference(ref map[string]jsontext.Value) bool {
	switch string(ref["type"]) {
	case `"ref/prompt"`:
		return isName(ref["name"]) && ref["uri"] == nil
	case `"ref/resource"`:
		return isName(ref["uri"]) && ref["name"] == nil
	}
	return false
}

// isName accepts a string that is not empty and not too long.
func isName(v []byte) bool { return isString(v) && len(v) > 2 && len(v) <= maxNameLength+2 }

// areTexts accepts an object of strings.
func areTexts(raw []byte) bool {
	texts := membersOf(raw)
	for _, text := range texts {
		if !isString(text) {
			return false
		}
	}
	return texts != nil && len(texts) <= maxTexts
}

// membersOf are the members of an object; nil for anything else.
func membersOf(raw []byte) (members map[string]jsontext.Value) {
	if jsonv2.Unmarshal(raw, &members) != nil {
		return nil
	}
	return members
}
