import { describe, expect, test } from "vitest";
import { z } from "zod";
import { unwrap } from "../../routers/core/redact.ts";
import type { Access, Meta } from "../../routers/core/rest-metadata.ts";
import { scopes } from "../../routers/core/scopes.ts";
import { appRouter, internalRouter } from "../../routers/index.ts";

type Definition = { type: "query" | "mutation" | "subscription"; meta?: Meta; inputs: z.ZodType[]; output?: z.ZodType };
const procedures = [appRouter, internalRouter]
  .flatMap(({ _def }) => Object.entries(_def.procedures as unknown as Record<string, { _def: Definition }>))
  .map(([name, { _def }]) => ({ name, ..._def }));
const named = (found: { name: string }[]) => found.map(({ name }) => name);

describe("every procedure", () => {
  test("is there", () => {
    expect(procedures.length).toBeGreaterThan(15);
  });

  test("asks for a scope of those that its access knows, or serves a person before a client is chosen", () => {
    const known: Record<Access, readonly string[]> = {
      tenant: scopes,
      self: [],
      operator: ["platform:read", "platform:write"],
      service: ["internal:read", "internal:write"],
    };
    const without = procedures.filter(
      ({ meta }) => !meta?.access || (meta.scope ? !known[meta.access].includes(meta.scope) : meta.access !== "self"),
    );
    expect(named(without)).toEqual([]);
  });

  test("that changes something asks for a scope to write, and one that only reads for a scope to read", () => {
    const odd = procedures.filter(
      ({ type, meta }) => meta?.scope && meta.scope.endsWith(":write") !== (type === "mutation" && !meta.reads),
    );
    expect(named(odd)).toEqual([]);
  });

  test("says what it answers, or that it answers nothing", () => {
    expect(named(procedures.filter(({ output, meta }) => !output && meta?.status !== 204))).toEqual([]);
  });

  test("takes one strict object, or nothing", () => {
    const loose = procedures.filter(
      ({ inputs }) => inputs.length > 1 || inputs.some((input) => !isStrict(unwrap(input))),
    );
    expect(named(loose)).toEqual([]);
  });

  test("has a REST path of its own, but for what goes on and on", () => {
    const lasting = procedures.filter(({ type }) => type === "subscription");
    expect(named(lasting)).toEqual(["events.stream"]);
    expect(lasting.filter(({ meta }) => meta?.openapi)).toEqual([]);
    const paths = procedures
      .filter((each) => !lasting.includes(each))
      .map(({ name, meta }) => {
        const { method, path } = meta?.openapi ?? {};
        return path ? `${method} ${path.replace(/\{[^}]+\}/g, "{}")}` : `${name} has none`;
      });
    expect(paths.filter((path, index) => paths.indexOf(path) !== index || path.endsWith("none"))).toEqual([]);
  });
});

const isStrict = (schema: z.ZodType) => schema instanceof z.ZodObject && schema.def.catchall instanceof z.ZodNever;

/** Words in a field's name that may stand for a secret, or for somebody's data. */
const telling = new Set([
  "key",
  "secret",
  "token",
  "password",
  "header",
  "auth",
  "authorization",
  "phone",
  "email",
  "prompt",
]);
const addresses = new Set(["to", "from"]);

function asksForDecision(name: string): boolean {
  const words = name.split(/[^A-Za-z]|(?=[A-Z])/).map((word) => word.toLowerCase().replace(/s$/, ""));
  return addresses.has(name) || words.some((word) => telling.has(word));
}

type Leaf = { path: string[]; decided: boolean };

/** The leaves of an input as the audit meets them: a mark on the way down decides for all that lies below. */
function leavesOf(schema: z.ZodType, path: string[] = [], decided = false): Leaf[] {
  const inner = peelOnce(schema);
  const here = decided || z.globalRegistry.get(schema)?.redact !== undefined;
  if (inner) return leavesOf(inner, path, here);
  if (schema instanceof z.ZodObject) {
    return Object.entries(schema.shape as Record<string, z.ZodType>).flatMap(([name, field]) =>
      leavesOf(field, [...path, name], here),
    );
  }
  if (schema instanceof z.ZodArray) return leavesOf(schema.element as z.ZodType, path, here);
  if (schema instanceof z.ZodUnion)
    return (schema.options as z.ZodType[]).flatMap((option) => leavesOf(option, path, here));
  return [{ path, decided: here }];
}

/** One layer less, where marks may stand on any of them. */
function peelOnce(schema: z.ZodType): z.ZodType | undefined {
  if (schema instanceof z.ZodPipe) return schema.in as z.ZodType;
  const { innerType } = schema.def as { innerType?: z.ZodType };
  return innerType;
}

const undecided = (input: z.ZodType) =>
  leavesOf(input)
    .filter(({ path, decided }) => !decided && path.some(asksForDecision))
    .map(({ path }) => path.join("."));

describe("the audit", () => {
  test("is told what to do with every field whose name sounds like a secret or like a person", () => {
    const mutations = procedures.filter(({ type }) => type === "mutation");
    const missing = mutations.flatMap(({ name, inputs }) =>
      inputs.flatMap(undecided).map((path) => `${name}: ${path}`),
    );
    expect(missing).toEqual([]);
  });

  test("this test would notice", () => {
    const Phone = z.string().meta({ redact: "personal" });
    const input = z.strictObject({
      apiKey: z.string().optional(),
      to: z.string(),
      token: z.string(),
      monkey: z.string(),
      headers: z.record(z.string(), z.string()),
      contact: z.union([z.strictObject({ phoneNumber: Phone }), z.strictObject({ email: z.string().nullable() })]),
      many: z.array(z.strictObject({ password: z.string() })).default([]),
      secretNote: z.string().meta({ redact: "none" }).optional(),
    });
    expect(undecided(input)).toEqual(["apiKey", "to", "token", "headers", "contact.email", "many.password"]);
  });
});
