import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AgentConfig } from "../../routers/agents/config.ts";
import { objectionsToSchema } from "../../routers/agents/output-schema.ts";
import {
  declaredOf,
  fillVariables,
  objectionsTo,
  oddMarksIn,
  render,
  type Values,
  variablesIn,
} from "../../routers/agents/variables.ts";
import { ApiError } from "../../routers/core/errors.ts";

const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,12}$/).filter((text) => text !== "ultravox");
const configOf = (more: object) => AgentConfig.parse({ systemPrompt: "Be brief.", ...more });
const declare = (more: object) => ({ type: "string", required: true, default: null, description: null, ...more });

describe("the variables of a text", () => {
  test.each([
    ["Hello {{name}}, {{ name }} and {{{other}}} and {{&third}}", ["name", "other", "third"], []],
    ["Nothing {here} at {all}", [], []],
    ["{{ultravox.sip.caller_id}} is the provider's own", [], []],
    [
      "{{customer.name}} {{#each}} {{/each}} {{}} {{two words}} {{1st}}",
      [],
      ["customer.name", "#each", "/each", "", "two words", "1st"],
    ],
    ['JSON: {"a": {"b": 1}}', [], []],
  ])("%s", (text, variables, odd) => {
    expect(variablesIn(text)).toEqual(variables);
    expect(oddMarksIn(text)).toEqual(odd);
  });

  test("are found in any place, and filled in with the given value, character for character", () => {
    const plain = fc.string().map((text) => text.replaceAll(/[{}]/g, ""));
    const values = fc.dictionary(name, fc.oneof(fc.string(), fc.integer(), fc.boolean()), { minKeys: 1 });
    fc.assert(
      fc.property(plain, plain, values, (before, after, given) => {
        const names = Object.keys(given);
        const text = before + names.map((each) => `{{${each}}}`).join("|") + after;
        expect(variablesIn(text)).toEqual(names);
        const filled = before + names.map((each) => String(given[each])).join("|") + after;
        expect(render(text, given)).toBe(filled);
      }),
    );
  });

  test("never reach into an object, and are not filled in twice", () => {
    expect(render("{{toString}}{{constructor}}{{__proto__}}", {})).toBe("");
    expect(render("{{a}}", { a: "{{b}} $& $1", b: "no" })).toBe("{{b}} $& $1");
  });
});

describe("the variables of a call", () => {
  const declared = configOf({
    variables: [
      { name: "who" },
      { name: "count", type: "number", required: false, default: 3 },
      { name: "vip", type: "boolean", required: false },
    ],
  }).variables;

  test("are completed with the declared defaults", () => {
    expect(fillVariables(declared, { who: "Ada" })).toEqual({ who: "Ada", count: 3, vip: "" });
    expect(fillVariables(declared, { who: "", count: 0, vip: false })).toEqual({ who: "", count: 0, vip: false });
  });

  test.each<[Record<string, unknown>, string[]]>([
    [{}, ["variables.who"]],
    [{ who: null }, ["variables.who"]],
    [{ who: 5 }, ["variables.who"]],
    [{ who: "Ada", count: "3" }, ["variables.count"]],
    [{ who: "Ada", count: Number.NaN }, ["variables.count"]],
    [{ who: "Ada", vip: "true", other: "x" }, ["variables.other", "variables.vip"]],
    [{ who: "Ada", toString: "x" }, ["variables.toString"]],
  ])("%j is refused, and the error names the variable", (given, paths) => {
    expect(failing(() => fillVariables(declared, given))).toEqual(paths);
  });

  test("of an agent that declares none: every variable in its texts is a required string", () => {
    const config = configOf({
      systemPrompt: "{{a}} {{b}}",
      greeting: "{{a}} {{c}}",
      timeExceededMessage: "{{d}}",
      // biome-ignore lint/suspicious/noThenProperty: the field's name in the API
      inactivityMessages: [{ afterSeconds: 5, message: "{{e}}", then: "nothing" }],
      voicemail: { behaviour: "leave_message", message: "{{f}}" },
      transferTargets: [{ name: "x", description: "{{g}}", to: "+14155550100" }],
      tools: [
        {
          toolId: "tool_01m82knxfbfrssk0x3en012rbf",
          description: "{{h}}",
          parameterOverrides: { a: [{ b: "{{i}}" }] },
        },
      ],
    });
    expect(declaredOf(config, [])).toEqual([..."abcdfeghi"].map((each) => declare({ name: each })));
    expect(objectionsTo(config, [])).toEqual([]);
    const all = Object.fromEntries([..."abcdefghi"].map((each) => [each, "x"]));
    expect(fillVariables(declaredOf(config, []), all)).toEqual(all);
    expect(failing(() => fillVariables(declaredOf(config, []), { ...all, e: 1 }))).toEqual(["variables.e"]);
  });

  test("of an agent that declares some: the error names the field of an undeclared use, and a default of the wrong type", () => {
    const config = configOf({
      systemPrompt: "{{known}} {{x}}",
      greeting: "{{#if}}",
      variables: [{ name: "known" }, { name: "n", type: "number", default: "5" }],
    });
    expect(objectionsTo(config, []).map(({ path }) => path)).toEqual([
      "systemPrompt",
      "greeting",
      "variables.1.default",
    ]);
    expect(objectionsTo(config, [])[0]?.message).toBe("uses {{x}}, which is not declared in `variables`.");
  });

  test("match the declaration or are refused, for any value", () => {
    const one = fc.record({
      name,
      type: fc.constantFrom("string" as const, "number" as const, "boolean" as const),
      required: fc.boolean(),
      default: fc.constant(null),
      description: fc.constant(null),
    });
    const any = fc.oneof(fc.string(), fc.double(), fc.boolean(), fc.constant(null), fc.array(fc.integer()));
    fc.assert(
      fc.property(fc.uniqueArray(one, { selector: (v) => v.name }), fc.dictionary(name, any), (known, given) => {
        let values: Values | undefined;
        try {
          values = fillVariables(known, given);
        } catch (error) {
          expect(error).toBeInstanceOf(ApiError);
          return;
        }
        expect(Object.keys(values).toSorted()).toEqual(known.map((v) => v.name).toSorted());
        for (const each of known) {
          const value = Object.hasOwn(given, each.name) ? given[each.name] : null;
          expect(values[each.name]).toEqual(value ?? "");
          if (value !== null && value !== undefined) expect(typeof value).toBe(each.type);
        }
      }),
    );
  });
});

describe("an old version", () => {
  test("is read with defaults for the fields that it lacks", () => {
    const stored = { systemPrompt: "Hi", model: null, voice: "Mark", languageHint: null, temperature: null };
    expect(AgentConfig.parse(stored)).toMatchObject({
      voice: "Mark",
      voiceId: null,
      languages: [],
      tools: [],
      knowledgeBaseIds: [],
      variables: [],
      inactivityMessages: [],
      voicemail: { behaviour: "ignore", message: null },
      transferTargets: [],
      hangUpEnabled: false,
      retention: { transcriptDays: null, recordingDays: null },
      outputSchema: null,
    });
  });
});

describe("an output schema", () => {
  test.each<[string, object, string[]]>([
    [
      "is an object",
      { type: "object", properties: { a: { type: ["string", "null"], "x-source": "summary", "x-own": 1 } } },
      [],
    ],
    ["of another type", { type: "string" }, ["type"]],
    ["without a type", { properties: {} }, ["type"]],
    ["with a type that is none", { type: "object", properties: { a: { type: "text" } } }, ["properties.a.type"]],
    [
      "with a reference",
      { type: "object", properties: { a: { $ref: "#/$defs/b" } }, $defs: {} },
      ["properties.a.$ref", "$defs"],
    ],
    ["with a misspelt keyword", { type: "object", propertis: {} }, ["propertis"]],
    ["whose property is called like a keyword", { type: "object", properties: { $ref: { type: "string" } } }, []],
    [
      "with a source that is none",
      { type: "object", properties: { a: { "x-source": "sumary" } } },
      ["properties.a.x-source"],
    ],
    [
      "within a list",
      { type: "object", properties: { a: { anyOf: [{ type: "string" }, { kind: 1 }] } } },
      ["properties.a.anyOf.1.kind"],
    ],
  ])("%s", (_, schema, paths) => {
    const found = objectionsToSchema(schema as Record<string, unknown>).map(({ path }) => path);
    expect([...new Set(found)]).toEqual(paths);
  });

  test("is neither too deep nor too long", () => {
    const nested = (levels: number): object =>
      levels === 0 ? {} : { type: "object", properties: { a: nested(levels - 1) } };
    expect(objectionsToSchema(nested(8) as Record<string, unknown>)).toEqual([]);
    expect(objectionsToSchema(nested(12) as Record<string, unknown>)[0]?.message).toMatch(/levels deep/);
    expect(objectionsToSchema({ type: "object", description: "x".repeat(20_000) })[0]?.message).toMatch(/20000 bytes/);
  });
});

function failing(work: () => unknown): string[] {
  try {
    work();
  } catch (error) {
    expect(error).toMatchObject({ errorCode: "input_invalid" });
    return (error as ApiError).details?.map(({ path }) => path) ?? [];
  }
  throw new Error("It was taken.");
}

test("a long run of blanks between braces is parsed quickly, in any place", { timeout: 20_000 }, () => {
  const blanks = " ".repeat(49_000);
  for (const text of [`{{${blanks}x`, `{{{${blanks}x`, "{{ ".repeat(16_000), `{{${"\t&".repeat(24_000)}`]) {
    const began = performance.now();
    expect([variablesIn(text), oddMarksIn(text), render(text, {})]).toEqual([[], [], text]);
    expect(performance.now() - began).toBeLessThan(2_000);
  }
  expect(variablesIn(`{{ a }} {{&b}} {{ & c }} {{{ d }}} {{e} {{${blanks}f }}`)).toEqual(["a", "b", "c", "d", "f"]);
});
