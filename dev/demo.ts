import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { styleText } from "node:util";
import { Webhook } from "standardwebhooks";
import { runCommand, runningWorld, startWorld, type WorldFacts } from "./world.ts";

type Json = Record<string, unknown>;
type Event = { id: string; type: string; subject: { id: string; sequence: number }; data: Json };

const began = performance.now();
const credits = (micros: unknown) => `${(Number(micros) / 1_000_000).toFixed(4)} credits`;

function print(what: string, more = "") {
  const seconds = ((performance.now() - began) / 1000).toFixed(2).padStart(6);
  console.log(`${styleText("dim", `${seconds} s`)}  ${what.padEnd(22)} ${styleText("dim", more)}`);
}

async function runDemo({ url, key, simulatorUrl }: WorldFacts) {
  const api = client(`${url}/api/v1`, key);
  console.log(`\n  A call from end to end, as an integrator sees it: ${url}/api/v1\n`);

  const receiver = await openReceiver();
  const endpoint = await api("POST", "/webhooks", { url: receiver.url, eventTypes: ["*"], description: "demo" });
  receiver.secret = String(endpoint.secret);
  print("webhook created", `${endpoint.id}, signed with ${receiver.secret.slice(0, 10)}…`);

  const agent = await api("POST", "/agents", {
    name: "Ada's bakery",
    systemPrompt: "You answer for Ada's bakery. The caller is {{name}}. Be brief.",
    greeting: "Ada's bakery, good morning!",
    maxDurationSeconds: 300,
  });
  print("agent created", `${agent.id}, version ${agent.version}`);

  const call = await api(
    "POST",
    "/calls",
    {
      agentId: agent.id,
      medium: { type: "phone", to: "+14155550100", from: "+14155550199" },
      variables: { name: "Charles" },
      metadata: { order: "10248" },
    },
    { "Idempotency-Key": randomUUID() },
  );
  print("call placed", `${call.id}, ${call.status}; ${credits(call.heldMicros)} are held for it`);
  if (simulatorUrl) print("", "the number ends in 0100: the callee answers and talks for about 40 simulated seconds");

  const expected = [
    "call.created",
    "credits.held",
    "call.started",
    "call.joined",
    "call.ended",
    "call.billed",
    "call.completed",
    "call.transcript.ready",
  ];
  await receiver.waitFor(String(call.id), [...expected, "credits.debited", "credits.released"]);

  const transcript = await api("GET", `/calls/${call.id}/transcript`);
  print("transcript", "");
  for (const line of String(transcript.text).split("\n")) console.log(`              ${line}`);

  const ended = await api("GET", `/calls/${call.id}`);
  print("the call", `${ended.outcome}, ${ended.billedSeconds} s billed, cost ${credits(ended.costMicros)}`);
  const ledger = (await api("GET", `/billing/ledger?subjectId=${call.id}`)) as unknown as {
    entries: Json[];
    kind: string;
  }[];
  print("ledger", "");
  let sum = 0;
  for (const { kind, entries } of [...ledger].reverse()) {
    for (const { account, amountMicros } of entries) {
      sum += Number(amountMicros);
      console.log(
        `              ${kind.padEnd(12)} ${String(account).padEnd(10)} ${(Number(amountMicros) / 1_000_000).toFixed(4).padStart(12)}`,
      );
    }
  }
  console.log(`              ${"".padEnd(12)} ${"sum".padEnd(10)} ${(sum / 1_000_000).toFixed(4).padStart(12)}`);
  if (sum !== 0 || ledger.length !== 2) throw new Error("The ledger of the call does not sum to zero.");
  if (receiver.refused > 0) throw new Error(`${receiver.refused} webhooks did not verify.`);
  await api("DELETE", `/webhooks/${endpoint.id}`);
  receiver.close();
  console.log(
    styleText(
      "green",
      `\n  Everything worked: ${receiver.received.length} webhooks received and verified, the ledger sums to zero.\n`,
    ),
  );
}

function client(base: string, key: string) {
  return async (method: string, path: string, body?: Json, headers: Record<string, string> = {}): Promise<Json> => {
    const response = await fetch(base + path, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(body ? { "content-type": "application/json" } : {}), ...headers },
      ...(body ? { body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text).data : {};
  };
}

const descriptions: Record<string, (data: Json) => string> = {
  "call.created": () => "the voice provider accepted it",
  "call.started": () => "ringing",
  "call.joined": () => "answered",
  "call.ended": ({ endReason }) => `ended: ${endReason}`,
  "call.completed": ({ outcome }) => `final: ${outcome}`,
  "call.billed": ({ billedSeconds, costMicros }) => `billed: ${billedSeconds} s, ${credits(costMicros)}`,
  "call.transcript.ready": () => "the transcript can be read",
  "credits.held": ({ amountMicros }) => `held: ${credits(amountMicros)}`,
  "credits.debited": ({ amountMicros }) => `settled: ${credits(amountMicros)} spent`,
  "credits.released": ({ amountMicros }) => `settled: ${credits(amountMicros)} returned`,
};

/** A receiver as an integrator would write it. It accepts only events whose signature verifies. */
async function openReceiver() {
  const received: Event[] = [];
  const receiver = { url: "", secret: "", refused: 0, received, waitFor, close: () => server.close() };
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk) => chunks.push(chunk));
    req.on("end", () => {
      try {
        const headers = req.headers as Record<string, string>;
        const event = new Webhook(receiver.secret).verify(Buffer.concat(chunks).toString(), headers) as Event;
        if (!received.some(({ id }) => id === event.id)) {
          received.push(event);
          print(event.type, `${descriptions[event.type]?.(event.data) ?? ""}  (webhook verified)`);
        }
        res.writeHead(204).end();
      } catch {
        receiver.refused++;
        res.writeHead(400).end();
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  receiver.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`;

  async function waitFor(subjectId: string, types: string[], seconds = 60) {
    const end = Date.now() + seconds * 1000;
    const isOurs = ({ subject, data }: Event) => subject.id === subjectId || data.subjectId === subjectId;
    const missing = () => types.filter((type) => !received.some((event) => event.type === type && isOurs(event)));
    while (missing().length > 0) {
      if (Date.now() > end)
        throw new Error(`These webhooks did not arrive within ${seconds} s: ${missing().join(", ")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  return receiver;
}

/** `npm run demo`: an integrator's first five minutes, with REST only. Uses the running local world, or starts one. */
await runCommand(async () => {
  const running = await runningWorld();
  const own = running ? null : await startWorld();
  try {
    await runDemo(running ?? own!.facts);
  } finally {
    await own?.stop();
  }
});
process.exit();
