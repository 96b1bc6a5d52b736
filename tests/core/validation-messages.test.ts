import { TRPCError } from "@trpc/server";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { operationsOf } from "../../edge/rest/operations.ts";
import { ApiError, toApiError } from "../../routers/core/errors.ts";
import { validationDetails } from "../../routers/core/validation-details.ts";
import { appRouter, internalRouter } from "../../routers/index.ts";
import { agent, startTestApp } from "../support/app.ts";
import { wrongValues } from "../support/wrong-values.ts";

const h = await startTestApp({ env: { RATE_LIMIT_MULTIPLIER: "100" } });

/** How the validator's own messages begin, in its English. */
const notOurs = /^(Invalid|Too (big|small)|Unrecognized|Expected|Required)|expected |received |<=|>=/i;

describe("every input", () => {
  const operations = [...operationsOf(appRouter), ...operationsOf(internalRouter)].filter(({ input }) => input);

  test.each(operations.map((operation) => [operation.procedure, operation.input!] as const))(
    "of %s refuses wrong values in our own sentences",
    async (_, input) => {
      const messages = new Set<string>();
      for (const value of wrongValues(input)) {
        const { error } = await z.safeParseAsync(input, value);
        if (!error) continue;
        const { message, details } = toApiError(new TRPCError({ code: "BAD_REQUEST", cause: error }));
        messages.add(message.slice(message.indexOf(": ") + 2));
        for (const detail of details ?? []) messages.add(detail.message);
      }
      expect(messages.size).toBeGreaterThan(0);
      expect([...messages].filter((message) => notOurs.test(message) || !/^[`A-Z0-9].*[.)`]$/s.test(message))).toEqual(
        [],
      );
    },
  );
});

describe("a message gives the solution", () => {
  const Shape = z.object({ type: z.literal("a"), size: z.number().max(5) });
  const Other = z.object({ type: z.literal("b"), id: z.string() });

  test.each<[string, z.ZodType, unknown, [path: string, message: string][]]>([
    ["a missing field", z.object({ name: z.string() }), {}, [["name", "This field is required."]]],
    ["a missing union", z.object({ name: z.union([z.string(), z.int()]) }), {}, [["name", "This field is required."]]],
    [
      "an unknown field",
      z.strictObject({}),
      { a: 1, b: 2 },
      [
        ["a", "There is no such field."],
        ["b", "There is no such field."],
      ],
    ],
    ["a string for a number", z.number(), "5", [["", "Use a number."]]],
    ["a fraction for an integer", z.int(), 0.5, [["", "Use an integer."]]],
    ["null for a boolean", z.boolean(), null, [["", "Use true or false."]]],
    ["an object for an array", z.array(z.string()), {}, [["", "Use an array."]]],
    ["a long string for an array", z.array(z.string()).max(1), "long", [["", "Use an array."]]],
    ["a string that is too long", z.string().max(3), "four", [["", "Use at most 3 characters."]]],
    ["an empty string", z.string().min(1), "", [["", "Use at least 1 character."]]],
    ["a string of another length", z.string().length(2), "x", [["", "Use exactly 2 characters."]]],
    ["an array that is too long", z.array(z.int()).max(1), [1, 2], [["", "Use at most 1 item."]]],
    ["a number that is too large", z.number().max(5), 6, [["", "Use a number of at most 5."]]],
    ["a number that must be less", z.number().lt(5), 5, [["", "Use a number below 5."]]],
    ["a number that is too small", z.number().gt(0), 0, [["", "Use a number above 0."]]],
    [
      "a time that is too late",
      z.date().max(new Date(0)),
      new Date(1),
      [["", "Write a time that is not after 1970-01-01T00:00:00.000Z."]],
    ],
    ["no multiple", z.number().multipleOf(5), 6, [["", "Use a multiple of 5."]]],
    ["another value", z.enum(["en", "de"]), "fr", [["", "Use one of: en, de."]]],
    ["another constant", z.literal("en"), "fr", [["", "Use en."]]],
    ["no email address", z.email(), "ada", [["", "Write an email address, such as ada@example.com."]]],
    ["another prefix", z.string().startsWith("sk_"), "x", [["", "Begin it with `sk_`."]]],
    ["another format", z.string().regex(/^\d$/), "x", [["", "Use the format `/^\\d$/`."]]],
    ["a type of no alternative", z.union([z.string(), z.boolean()]), 5, [["", "Use a string or true or false."]]],
    [
      "a field of an alternative",
      z.object({ to: z.union([z.string(), Shape]) }),
      { to: { type: "a", size: 6 } },
      [["to.size", "Use a number of at most 5."]],
    ],
    [
      "no alternative of that name",
      z.discriminatedUnion("type", [Shape, Other]),
      { type: "c" },
      [["type", "Use one of: a, b."]],
    ],
    ["a name of a record", z.record(z.string().max(1), z.int()), { ab: 1 }, [["ab", "Use at most 1 character."]]],
    [
      "a rule without a message",
      z.string().refine(() => false),
      "x",
      [["", "This value is not valid. See the API reference."]],
    ],
    ["a rule with a message", z.string().refine(() => false, "Use another."), "x", [["", "Use another."]]],
  ])("for %s", (_, schema, value, expected) => {
    const { error } = schema.safeParse(value);
    expect(validationDetails(error!.issues)).toEqual(expected.map(([path, message]) => ({ path, message })));
  });

  test("and names 20 allowed values at most", () => {
    const names = Array.from({ length: 50 }, (_, n) => `v${n}`);
    const { error } = z.enum(names).safeParse("x");
    expect(error!.issues[0]!.message).toBe(`Use one of: ${names.slice(0, 20).join(", ")}, or 30 others.`);
  });
});

test("a response has at most 20 problems, and its message counts the others", () => {
  const details = Array.from({ length: 25 }, (_, n) => ({ path: `f${n}`, message: "This field is required." }));
  const more = ApiError.invalidFields(details);
  expect(more.details).toEqual(details.slice(0, 20));
  expect(more.message).toBe("f0: This field is required. There are 5 more problems, which are not listed.");
  expect(ApiError.invalidFields(details.slice(0, 20)).message).toBe("f0: This field is required.");
});

test("both transports return the same sentences", async () => {
  const input = { ...agent, name: "x".repeat(101), temperature: "warm", nonsense: 1 };
  const rest = await h.post("/agents", input);
  const trpc = await h.mutate("agents.create", input);
  const details = [
    { path: "name", message: "Use at most 100 characters." },
    { path: "temperature", message: "Use a number." },
    { path: "nonsense", message: "There is no such field." },
  ];
  expect(rest.body.error).toMatchObject({
    code: "input_invalid",
    message: "name: Use at most 100 characters.",
    details,
  });
  expect(trpc.body.error.data).toMatchObject({ code: "input_invalid", details });
});
