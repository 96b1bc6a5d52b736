import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import type { SeededClient } from "../../dev/seed.ts";
import { seedClient } from "../../dev/seed.ts";
import { isInternal, operationsOf, type RestOperation } from "../../edge/rest/operations.ts";
import { appRouter, internalRouter } from "../../routers/index.ts";
import type { ModuleInputs, ResourceIds } from "../contract/endpoints/resource.ts";
import { resources } from "../contract/endpoints/resources.ts";
import { serviceToken, startTestApp } from "../support/app.ts";
import { type ApiDocument, readerOf } from "../support/fuzz/document.ts";
import { type Input, type Mutation, mutationsOf } from "../support/fuzz/mutations.ts";
import { objectionTo } from "../support/fuzz/verdict.ts";
import { closeWire, sendWire, type Wire, type WireAnswer, wireOf } from "../support/fuzz/wire.ts";

/**
 * Sends requests with one error to every operation of the document, on both transports. FUZZ_SEED selects the requests,
 * FUZZ_RUNS is their number for each operation and transport (`npm run fuzz`: many more).
 */
const seed = Number(process.env.FUZZ_SEED ?? 1);
const runs = Number(process.env.FUZZ_RUNS ?? (process.env.npm_lifecycle_event === "fuzz" ? 300 : 10));
/** Operations per client and operator, so that neither reaches a rate limit. */
const operationsEach = runs <= 20 ? 24 : 2;
const mostShown = 8;

const h = await startTestApp({
  credits: 100_000,
  env: {
    RATE_LIMIT_MULTIPLIER: "100",
    PLATFORM_SUBJECTS: ["auth0|operator", ...Array.from({ length: 300 }, (_, n) => `auth0|operator-${n}`)].join(","),
  },
});
const document = (await (await fetch(`${h.url}/openapi.json`)).json()) as ApiDocument;
const reader = readerOf(document);
const internal = operationsOf(internalRouter).filter(isInternal);
const operations = [...operationsOf(appRouter), ...internal];
const inputs = Object.assign({}, ...resources.map(({ inputs }) => inputs)) as ModuleInputs["inputs"];
const guest = await h.identity.token({ sub: "auth0|guest", clients: [] });
const others = await createResources(h.bob);
const crews = new Map<number, Promise<Crew>>();
afterAll(closeWire);

type Crew = { who: SeededClient; own: ResourceIds; operator: string };

async function createResources(who: SeededClient): Promise<ResourceIds> {
  const own: ResourceIds = {};
  for (const resource of resources) Object.assign(own, await resource.createResources?.({ h, who, own }));
  return own;
}

/** A separate client for some of the operations, with one resource of each kind. */
function crewFor(index: number): Promise<Crew> {
  const number = Math.floor(index / operationsEach);
  const known = crews.get(number);
  if (known) return known;
  const made = openCrew(number);
  crews.set(number, made);
  return made;
}

async function openCrew(number: number): Promise<Crew> {
  const seed = { name: `Fuzz ${number}`, subject: `auth0|fuzz-${number}`, credits: 100_000 };
  const who = await seedClient(h.deps, seed);
  const operator = await h.identity.token({ sub: `auth0|operator-${number}`, clients: [] });
  return { who, own: await createResources(who), operator };
}

function keyFor({ type, meta: { access } }: RestOperation, { who, operator }: Crew): string {
  if (access === "operator") return operator;
  if (access === "service") return serviceToken;
  return access === "self" && type === "mutation" ? guest : who.key;
}

/** The order depends only on the seed. */
function chance(status: number) {
  return () => {
    status = (status + 0x6d2b79f5) | 0;
    let mixed = Math.imul(status ^ (status >>> 15), 1 | status);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function sample<T>(all: readonly T[], count: number, random: () => number): T[] {
  if (count >= all.length) return [...all];
  const left = [...all];
  return Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)[0]!);
}

/** Waits for the rate limit and retries: a 429 is not the response under test. */
async function answered(wire: Wire): Promise<WireAnswer> {
  for (let tries = 0; ; tries++) {
    const response = await sendWire(h.url, wire);
    if (response.status !== 429 || tries === 3) return response;
    await sleep(Math.min(61, Number(response.headers["retry-after"] ?? 1)) * 1000);
  }
}

function wireWith(transport: Wire["transport"], target: RestOperation, input: Input, key: string, mutation: Mutation) {
  const wire = wireOf(transport, target, mutation.apply?.(input) ?? input, key);
  const mutated = mutation.wire ? mutation.wire(wire) : wire;
  // A longer request head is refused before it reaches an operation.
  return mutated && mutated.path.length + mutated.query.length < 12_000 ? mutated : null;
}

async function objectionsOf(target: RestOperation, index: number, transport: Wire["transport"]): Promise<string[]> {
  const crew = await crewFor(index);
  const ground = { h, ...crew };
  const make = async (): Promise<Input> => {
    const { cursor: _, ...input } = await inputs[target.procedure]!(ground);
    return input;
  };
  const operation = reader.operation(target.rest.method, target.rest.path);
  const isOther = ({ method, path }: Wire) =>
    transport === "rest" && (method !== target.rest.method || /\/(\/|$)/.test(path));
  const random = chance(seed * 1_000_003 + index * 2 + (transport === "rest" ? 0 : 1));
  let input = await make();
  const { fields, whole } = mutationsOf(reader, operation ?? { responses: {} }, input, Object.values(others));
  const chosen = [...sample(fields, Math.ceil(runs * 0.7), random), ...sample(whole, Math.ceil(runs * 0.3), random)];
  const objections: string[] = [];
  for (const mutation of chosen) {
    const wire = wireWith(transport, target, input, keyFor(target, crew), mutation);
    if (!wire) continue;
    const response = await answered(wire);
    const objection = objectionTo(wire, response, reader, isOther(wire) ? undefined : operation);
    if (objection) objections.push(`${mutation.label} -> ${objection}`);
    if (response.status < 300 && target.type === "mutation") input = await make();
  }
  return objections;
}

const cases = operations.flatMap((target, index) =>
  (isInternal(target) ? (["rest"] as const) : (["rest", "trpc"] as const)).map(
    (transport) => [`${target.procedure} by ${transport}`, target, index, transport] as const,
  ),
);

test("the document has every operation that is fuzzed", () => {
  const missing = operations.filter(
    (target) => !isInternal(target) && !reader.operation(target.rest.method, target.rest.path),
  );
  expect(missing.map(({ procedure }) => procedure)).toEqual([]);
});

test("no operation of the internal services is reachable on /trpc", async () => {
  for (const { procedure } of internal) {
    for (const key of [serviceToken, h.ada.key, await h.operator()]) {
      for (const method of ["GET", "POST"]) {
        const response = await h.send(method, `/trpc/${procedure}`, method === "POST" ? {} : undefined, { key });
        expect([procedure, response.status, response.body?.error?.data?.code]).toEqual([
          procedure,
          404,
          "route_not_found",
        ]);
      }
    }
  }
});

test.each(cases)(
  "%s returns documented errors for invalid requests",
  { timeout: 20_000 + runs * 2_000 },
  async (_, target, index, transport) => {
    const objections = await objectionsOf(target, index, transport);
    expect(objections.slice(0, mostShown), `${objections.length} in all, seed ${seed}`).toEqual([]);
  },
);
