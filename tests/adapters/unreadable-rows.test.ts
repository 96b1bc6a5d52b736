import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { countUnknownWords } from "../../server/adapters/shared/unknown-words.ts";
import { ultravox } from "../../server/adapters/ultravox/index.ts";

/** A provider whose lists have the rows of all clients of a shared account. */
let rows: unknown[] = [];
const provider = createServer((_, response) => {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ results: rows, next: null }));
}).listen(0, "127.0.0.1");
await once(provider, "listening");
const baseUrl = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`;
const uv = ultravox({ baseUrl, apiKeyOf: async () => "key.0123", sipTrunk: "trunk.example" });
const soon = () => ({ signal: AbortSignal.timeout(20_000) });
const reported: string[] = [];
const counting = countUnknownWords(({ field, word }) => void reported.push(`${field}: ${word}`));
afterAll(() => {
  counting.close();
  provider.close();
});

const mine = { agentId: "upstream-1", name: "agent_mine" };

test("a row of another client that cannot be read is left out of a lookup, and reported", async () => {
  rows = [{ agentId: 7, name: "agent_other" }, mine, null];
  const found = await uv.findAgents("pacc_1", "agent_mine", soon());
  expect(found.map(({ providerAgentId }) => providerAgentId)).toEqual(["upstream-1"]);
  expect(reported).toEqual(["row of /api/agents: unreadable"]);
  expect(counting.counts()).toEqual({ "Ultravox row of /api/agents: unreadable": 2 });
});

test("a row that can be the one looked for fails the lookup: it must not be taken for absent", async () => {
  rows = [{ agentId: 7, name: "agent_mine" }];
  await expect(uv.findAgents("pacc_1", "agent_mine", soon())).rejects.toBeInstanceOf(ProviderError);
});

test("every lookup in a shared account survives a row of another client", async () => {
  rows = [{ surprise: true }];
  const lookups = [
    uv.findAgents("pacc_1", "agent_mine", soon()),
    uv.findCalls("pacc_1", "call_mine", new Date(), soon()),
    uv.findTools("pacc_1", "tool_mine", soon()),
    uv.findVoices("pacc_1", "voice_mine", soon()),
    uv.findCorpora("pacc_1", "kb_mine", soon()),
    uv.findSources("pacc_1", "corpus", "kbf_mine", soon()),
    uv.listRegistrations("pacc_1", ["mine"], soon()),
  ];
  expect(await Promise.all(lookups)).toEqual(lookups.map(() => []));
});

test("a message of a call that cannot be read fails its list", async () => {
  rows = [7];
  await expect(uv.listMessages("pacc_1", "upstream", soon())).rejects.toBeInstanceOf(ProviderError);
});
