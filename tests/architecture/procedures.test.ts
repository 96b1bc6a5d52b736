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
const namesOf = (found: { name: string }[]) => found.map(({ name }) => name);

describe("every procedure", () => {
  test("is found", () => {
    expect(procedures.length).toBeGreaterThan(15);
  });

  test("requires a scope that fits its access, or serves a user before a client is chosen", () => {
    const known: Record<Access, readonly string[]> = {
      tenant: scopes,
      self: [],
      operator: ["platform:read", "platform:write"],
      service: ["internal:read", "internal:write"],
    };
    const without = procedures.filter(
      ({ meta }) => !meta?.access || (meta.scope ? !known[meta.access].includes(meta.scope) : meta.access !== "self"),
    );
    expect(namesOf(without)).toEqual([]);
  });

  test("requires a write scope if it changes something, and a read scope if it only reads", () => {
    const mismatched = procedures.filter(
      ({ type, meta }) => meta?.scope && meta.scope.endsWith(":write") !== (type === "mutation" && !meta.reads),
    );
    expect(namesOf(mismatched)).toEqual([]);
  });

  test("declares its output, or 204", () => {
    expect(namesOf(procedures.filter(({ output, meta }) => !output && meta?.status !== 204))).toEqual([]);
  });

  test("takes one strict object, or nothing", () => {
    const loose = procedures.filter(
      ({ inputs }) => inputs.length > 1 || inputs.some((input) => !isStrict(unwrap(input))),
    );
    expect(namesOf(loose)).toEqual([]);
  });

  test("has its own REST path, except for subscriptions", () => {
    const subscriptions = procedures.filter(({ type }) => type === "subscription");
    expect(namesOf(subscriptions)).toEqual(["events.stream"]);
    expect(subscriptions.filter(({ meta }) => meta?.openapi)).toEqual([]);
    const paths = procedures
      .filter((each) => !subscriptions.includes(each))
      .map(({ name, meta }) => {
        const { method, path } = meta?.openapi ?? {};
        return path ? `${method} ${path.replace(/\{[^}]+\}/g, "{}")}` : `${name} has none`;
      });
    expect(paths.filter((path, index) => paths.indexOf(path) !== index || path.endsWith("none"))).toEqual([]);
  });
});

const isStrict = (schema: z.ZodType) => schema instanceof z.ZodObject && schema.def.catchall instanceof z.ZodNever;

/** Words in a field's name that suggest a secret or personal data. */
const sensitiveWords = new Set([
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
const addressFields = new Set(["to", "from"]);

function isSensitive(name: string): boolean {
  const words = name.split(/[^A-Za-z]|(?=[A-Z])/).map((word) => word.toLowerCase().replace(/s$/, ""));
  return addressFields.has(name) || words.some((word) => sensitiveWords.has(word));
}

type Leaf = { path: string[]; decided: boolean };

/** The leaves of an input as the audit sees them. A `redact` mark applies to everything below it. */
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

/** Removes one wrapper. Each wrapper may have a mark. */
function peelOnce(schema: z.ZodType): z.ZodType | undefined {
  if (schema instanceof z.ZodPipe) return schema.in as z.ZodType;
  const { innerType } = schema.def as { innerType?: z.ZodType };
  return innerType;
}

const undecided = (input: z.ZodType) =>
  leavesOf(input)
    .filter(({ path, decided }) => !decided && path.some(isSensitive))
    .map(({ path }) => path.join("."));

describe("the audit", () => {
  test("has a redaction rule for every field whose name suggests a secret or personal data", () => {
    const mutations = procedures.filter(({ type }) => type === "mutation");
    const missing = mutations.flatMap(({ name, inputs }) =>
      inputs.flatMap(undecided).map((path) => `${name}: ${path}`),
    );
    expect(missing).toEqual([]);
  });

  test("this test finds a field without a rule", () => {
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
