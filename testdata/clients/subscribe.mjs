// Hears of changes as an agent built on the TypeScript SDK would, and reads again what
// changed.
//
//   node subscribe.mjs http URL URI...              API key from VAULT_MCP_API_KEY
//   node subscribe.mjs modern-http URL URI...       the same in revision 2026-07-28
//   node subscribe.mjs stdio COMMAND URI...         credentials from the environment
//   node subscribe.mjs modern-stdio COMMAND URI...
//
// The first line printed is {subscribed}; then one for each change: {uri, body}, with
// what kv.read gives. It takes calls from standard input as story.mjs does, and answers
// nothing to them.
import { createInterface } from 'node:readline';
import * as v1 from '@modelcontextprotocol/sdk/client/index.js';
import * as v1stdio from '@modelcontextprotocol/sdk/client/stdio.js';
import * as v1http from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import * as v2 from '@modelcontextprotocol/client';
import * as v2stdio from '@modelcontextprotocol/client/stdio';

const [mode, target, ...uris] = process.argv.slice(2);
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const transport = (stdio, http) => mode.endsWith('stdio')
  ? new stdio.StdioClientTransport({ command: target, args: ['stdio'], env: process.env, stderr: 'ignore' })
  : new http.StreamableHTTPClientTransport(new URL(target), { requestInit: { headers: { 'X-API-Key': process.env.VAULT_MCP_API_KEY } } });

const changed = async ({ params }) => {
  const [, , , ...path] = params.uri.split('/');
  const result = await client.callTool({ name: 'kv.read', arguments: { path: path.join('/') } });
  print({ uri: params.uri, body: JSON.parse(result.content[0].text) });
};

let client;
if (mode.startsWith('modern')) {
  client = new v2.Client({ name: 'typescript-sdk', version: '2' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } });
  client.setNotificationHandler('notifications/resources/updated', changed);
  await client.connect(transport(v2stdio, v2));
  const { honoredFilter } = await client.listen({ resourceSubscriptions: uris });
  print({ subscribed: honoredFilter.resourceSubscriptions });
} else {
  client = new v1.Client({ name: 'typescript-sdk', version: '1' });
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, changed);
  await client.connect(transport(v1stdio, v1http));
  for (const uri of uris) {
    await client.subscribeResource({ uri });
  }
  print({ subscribed: uris });
}
for await (const line of createInterface({ input: process.stdin })) {
  const { tool, args } = JSON.parse(line);
  await client.callTool({ name: tool, arguments: args });
}
await client.close();
