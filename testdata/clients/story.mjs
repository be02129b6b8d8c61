// Uses the server as an agent built on the TypeScript SDK would.
//
//   node story.mjs stdio COMMAND [ARG...]     credentials from the environment
//   node story.mjs http URL                   API key from VAULT_MCP_API_KEY
//
// Reads calls from standard input, one JSON object {tool, args} a line, and
// prints one line for each: {failed, body}. A line {prompt, args} gets a prompt
// and prints {text}; {prompt, argument, value} completes an argument of one and
// prints {values}. The first line printed is {protocol, tools, prompts}.
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [mode, target, ...args] = process.argv.slice(2);
const key = process.env.VAULT_MCP_API_KEY;
const transport = mode === 'stdio'
  ? new StdioClientTransport({ command: target, args, env: process.env, stderr: 'ignore' })
  : new StreamableHTTPClientTransport(new URL(target), { requestInit: { headers: { 'X-API-Key': key } } });

const client = new Client({ name: 'typescript-sdk', version: '1' });
await client.connect(transport);
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const { tools } = await client.listTools();
const { prompts } = await client.listPrompts();
print({ protocol: transport.protocolVersion ?? '', tools: tools.map((t) => t.name), prompts: prompts.map((p) => p.name) });

for await (const line of createInterface({ input: process.stdin })) {
  const { tool, args, prompt, argument, value } = JSON.parse(line);
  if (argument) {
    const { completion } = await client.complete({ ref: { type: 'ref/prompt', name: prompt }, argument: { name: argument, value } });
    print({ values: completion.values });
    continue;
  }
  if (prompt) {
    const { messages } = await client.getPrompt({ name: prompt, arguments: args });
    print({ text: messages[0].content.text });
    continue;
  }
  // The SDK holds structuredContent against the tool's output schema here.
  const result = await client.callTool({ name: tool, arguments: args });
  const body = JSON.parse(result.content[0].text);
  if (!result.isError && JSON.stringify(result.structuredContent) !== JSON.stringify(body)) {
    throw new Error(`${tool}: the text is not the structured content`);
  }
  print({ failed: result.isError === true, body });
}
await client.close();
