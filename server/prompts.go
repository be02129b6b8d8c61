package server

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
	"vault-mcp/tools"
)

// Prompts and completions are answered here, without the SDK's own registries: what
// there is depends on the caller, and its errors would repeat what was asked for.

// listPrompts shows the prompts that the caller may use, on one page.
func (s *Server) listPrompts(ctx context.Context, _ mcp.MethodHandler, req *mcp.ListPromptsRequest, c *caller) (mcp.Result, error) {
	p, err := s.present(ctx, c)
	if err == nil && req.Params != nil && req.Params.Cursor != "" {
		err = onePage()
	}
	if err != nil {
		return nil, promptError(s.reject(c, p, err), c)
	}
	shown := []*mcp.Prompt{}
	for _, prompt := range s.opt.Runner.VisiblePrompts(p) {
		shown = append(shown, describePrompt(prompt))
	}
	return &mcp.ListPromptsResult{Cacheable: uncached, Prompts: shown}, nil
}

// describePrompt is a prompt as clients see it.
func describePrompt(p *tools.Prompt) *mcp.Prompt {
	d := &mcp.Prompt{Name: p.Name, Title: p.Title, Description: p.Doc}
	for _, a := range p.Arguments {
		d.Arguments = append(d.Arguments, &mcp.PromptArgument{Name: a.Name, Description: a.Doc, Required: a.Required})
	}
	return d
}

// getPrompt gives a prompt's text, as the user's words.
func (s *Server) getPrompt(ctx context.Context, _ mcp.MethodHandler, req *mcp.GetPromptRequest, c *caller) (mcp.Result, error) {
	var text string
	err := s.serve(ctx, c, func(ctx context.Context, p *auth.Principal) (err error) {
		text, err = s.opt.Runner.Prompt(ctx, tools.PromptRequest{
			Principal: p, Name: req.Params.Name, Arguments: req.Params.Arguments,
			Underscored: s.opt.ToolNames.underscored(req.ClientInfo()),
			Transport:   c.transport, Remote: c.remote, RequestID: c.requestID,
		})
		return err
	})
	if err != nil {
		return nil, promptError(err, c)
	}
	return &mcp.GetPromptResult{
		Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: text}}},
	}, nil
}

// complete completes an argument of a prompt or a variable of the resources'
// template.
func (s *Server) complete(ctx context.Context, _ mcp.MethodHandler, req *mcp.CompleteRequest, c *caller) (mcp.Result, error) {
	var done tools.Completed
	err := s.serve(ctx, c, func(ctx context.Context, p *auth.Principal) (err error) {
		ask := tools.Completion{
			Principal: p, Argument: req.Params.Argument.Name, Value: req.Params.Argument.Value,
			Transport: c.transport, Remote: c.remote, RequestID: c.requestID,
		}
		if ref := req.Params.Ref; ref != nil {
			ask.Prompt, ask.Resource = ref.Name, ref.URI
		}
		if req.Params.Context != nil {
			ask.Given = req.Params.Context.Arguments
		}
		done, err = s.opt.Runner.Complete(ctx, ask)
		return err
	})
	if err != nil {
		return nil, promptError(err, c)
	}
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{
		Values: done.Values, Total: done.Total, HasMore: len(done.Values) < done.Total,
	}}, nil
}

// promptError is protocolError where what is not found is no resource: in every
// revision, a name that there is not is one of the params that are wrong.
func promptError(err error, c *caller) error { return protocolError(err, modernVersion, c.requestID) }
