import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

/**
 * Simulates Amazon EventBridge: PutEvents over the service's protocol (JSON 1.1,
 * docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html), with its limits.
 * Signatures are not checked.
 */
export type EventBridge = {
  url: string;
  /** Every request in order of arrival, with the outcome of each entry. */
  calls: { entries: BusEvent[]; answered: string[] }[];
  /** The accepted events, in order. */
  accepted: BusEvent[];
  /** Sets the outcome of entries in the next requests. null accepts an entry. */
  judge(verdict: (entry: BusEvent) => string | null): void;
  /** The number of next requests that fail as a whole. Infinity fails all. */
  fail(error: string, times: number): void;
  /** Delays every response by this time. */
  delay(ms: number): void;
  /** Accepts requests and never responds. */
  stopResponding(): void;
  /** Ends all faults. */
  recover(): void;
  close(): Promise<void>;
};

const Entry = z.strictObject({
  Source: z.string().min(1),
  DetailType: z.string().min(1),
  Detail: z.string(),
  EventBusName: z.string().min(1),
  Time: z.number(),
});
export type BusEvent = z.output<typeof Entry>;
const PutEvents = z.strictObject({ Entries: z.array(Entry).min(1).max(10) });
const bytesPerCall = 256 * 1024;

class Refusal extends Error {
  readonly status: number;
  constructor(name: string, message = "This fault was requested.") {
    super(message);
    this.name = name;
    this.status = name === "InternalException" ? 500 : 400;
  }
}

type Bus = {
  calls: EventBridge["calls"];
  accepted: BusEvent[];
  verdictOf: (entry: BusEvent) => string | null;
  failing: { error: string; times: number };
  isSilent: boolean;
  delayMs: number;
};

const noFaults = () => ({ verdictOf: () => null, failing: { error: "", times: 0 }, isSilent: false, delayMs: 0 });

export async function startEventBridge({ port = 0 } = {}): Promise<EventBridge> {
  const bus: Bus = { calls: [], accepted: [], ...noFaults() };
  const server = createServer((request, response) => void handle(bus, request, response));
  server.keepAliveTimeout = 600_000; // a shorter time closes connections that a client is about to reuse
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls: bus.calls,
    accepted: bus.accepted,
    judge: (verdictOf) => void Object.assign(bus, { verdictOf }),
    fail: (error, times) => void Object.assign(bus, { failing: { error, times } }),
    delay: (delayMs) => void Object.assign(bus, { delayMs }),
    stopResponding: () => void Object.assign(bus, { isSilent: true }),
    recover: () => void Object.assign(bus, noFaults()),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function handle(bus: Bus, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const send = (status: number, content: object) =>
    response.writeHead(status, { "content-type": "application/x-amz-json-1.1" }).end(JSON.stringify(content));
  try {
    const operation = String(request.headers["x-amz-target"]).split(".")[1];
    const content = putEvents(bus, operation, await read(request));
    if (bus.delayMs > 0) await sleep(bus.delayMs);
    if (!bus.isSilent) send(200, content);
  } catch (error) {
    const { name, message, status } =
      error instanceof Refusal ? error : new Refusal("InternalException", String(error));
    if (!bus.isSilent) send(status, { __type: name, message });
  }
}

function putEvents(bus: Bus, operation: string | undefined, body: unknown): object {
  const input = operation === "PutEvents" ? PutEvents.safeParse(body) : undefined;
  const call: EventBridge["calls"][number] = { entries: input?.data?.Entries ?? [], answered: [] };
  bus.calls.push(call);
  const refuse = (name: string, message?: string) => {
    call.answered = [name];
    return new Refusal(name, message);
  };
  if (!input) throw refuse("UnknownOperationException", operation);
  if (!input.success) throw refuse("ValidationException", input.error.message);
  if (bus.failing.times > 0) {
    bus.failing.times -= 1;
    throw refuse(bus.failing.error);
  }
  const bytes = call.entries.reduce((sum, entry) => sum + sizeOf(entry), 0);
  if (bytes >= bytesPerCall)
    throw refuse("ValidationException", "Total size of the entries in the request is over the limit.");
  const Entries = call.entries.map((entry) => {
    const code = bus.verdictOf(entry) ?? (isJsonObject(entry.Detail) ? null : "MalformedDetail");
    call.answered.push(code ?? "accepted");
    if (code) return { ErrorCode: code, ErrorMessage: "This fault was requested." };
    bus.accepted.push(entry);
    return { EventId: randomUUID() };
  });
  return { FailedEntryCount: Entries.filter((each) => "ErrorCode" in each).length, Entries };
}

/** The size as the service counts it. */
function sizeOf({ Source, DetailType, Detail }: BusEvent): number {
  return 14 + Buffer.byteLength(Source) + Buffer.byteLength(DetailType) + Buffer.byteLength(Detail);
}

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

async function read(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString() || "{}");
}
