import { describe, expect, test } from "vitest";
import { openApiDocument } from "../../edge/openapi/document.ts";
import { isInternal, operationsOf } from "../../edge/rest/operations.ts";
import { errorCodes } from "../../routers/core/error-codes.ts";
import { appRouter } from "../../routers/index.ts";

/** One word for one thing, in everything that the OpenAPI document names: fields, parameters, values, codes, paths. */

type Schema = { type?: string | string[]; format?: string; pattern?: string; items?: Schema; anyOf?: Schema[] };
type Field = { name: string; schema: Schema; at: string };

const document = JSON.parse(
  JSON.stringify(openApiDocument(appRouter, { baseUrl: "https://api.patchbay.test/api/v1", version: "1" })),
) as { paths: Record<string, object>; components: object };
const operations = operationsOf(appRouter).filter((operation) => !isInternal(operation));

/** Every property and parameter of the document. */
const fields = [...fieldsIn(document.paths, "paths"), ...fieldsIn(document.components, "components")];
const values = [...new Set(valuesIn(document))];

function fieldsIn(value: unknown, at: string): Field[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item, index) => fieldsIn(item, `${at}/${index}`));
  const { properties, name, schema, in: place } = value as Record<string, never> & { in?: string };
  const own = Object.entries((properties ?? {}) as Record<string, Schema>).map(([key, each]) => {
    return { name: key, schema: each, at: `${at}/${key}` };
  });
  const parameter =
    typeof name === "string" && schema && place && place !== "header"
      ? [{ name: name as string, schema: schema as Schema, at }]
      : [];
  const rest = Object.entries(value).filter(([key]) => key !== "examples" && key !== "example");
  return [...own, ...parameter, ...rest.flatMap(([key, inner]) => fieldsIn(inner, `${at}/${key}`))];
}

function valuesIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap(valuesIn);
  return Object.entries(value).flatMap(([key, inner]) => {
    if (key === "examples" || key === "example") return [];
    if (key === "enum" && Array.isArray(inner)) return inner.filter((each) => typeof each === "string");
    return valuesIn(inner);
  });
}

/** The schema, and its alternatives. */
const forms = (schema: Schema): Schema[] => [schema, ...(schema.anyOf ?? []).flatMap(forms)];
const has = (schema: Schema, type: string) => forms(schema).some((each) => [each.type].flat().includes(type));
const isTime = ({ schema }: Field) => forms(schema).some(({ format }) => format === "date-time");
const isNumber = ({ schema }: Field) => has(schema, "integer") || has(schema, "number");
const isIdSchema = (schema: Schema | undefined) =>
  schema !== undefined && forms(schema).some(({ pattern }) => pattern && /^\^\w+_\[.*\{2[56]\}\$$/.test(pattern));

const namesOf = (found: Field[]) => [...new Set(found.map(({ name }) => name))].sort();

describe("a field", () => {
  /** Old words, each with the word that is used instead. */
  const replaced: Record<string, string> = {
    ...{
      state: "status",
      since: "createdAfter",
      until: "createdBefore",
      after: "createdAfter",
      before: "createdBefore",
    },
    ...{ q: "search", query: "search", text: "search", tags: "metadata", labels: "metadata" },
    ...{ consecutive_failures: "consecutiveFailures", failureCount: "consecutiveFailures" },
    ...{ reason_text: "statusReason", suspendedReason: "statusReason", error_code: "code" },
    ...{ kb: "knowledgeBaseId", kbId: "knowledgeBaseId", kbIds: "knowledgeBaseIds", dispatch: "deliveries" },
    ...{
      answer: "response",
      milliseconds: "latencyMs",
      validUntil: "expiresAt",
      tenantId: "clientId",
      orgId: "clientId",
    },
  };
  /** Fields for which an old word is the right one. */
  const rightHere = ["query: KnowledgeQueryRequest", "text: Transcript", "text: KnowledgeAnswer"];

  test("has the one word for its meaning", () => {
    const old = fields.filter(({ name, at }) => {
      const isRight = rightHere.some(
        (each) => each.startsWith(`${name}: `) && at.includes(each.slice(name.length + 2)),
      );
      return Object.hasOwn(replaced, name) && !isRight;
    });
    expect(old.map(({ name, at }) => `${at}: ${name} -> ${replaced[name]}`)).toEqual([]);
  });

  test("is named in camelCase", () => {
    expect(namesOf(fields.filter(({ name }) => !/^[a-z][A-Za-z0-9]*$/.test(name)))).toEqual([]);
  });

  test("with a time ends in At, or in After and Before for a filter", () => {
    // The start of a time range that lasts: "from" and "since" are the standard words for it.
    const lasting = ["effectiveFrom", "failingSince"];
    const wrong = fields.filter((field) => isTime(field) && !/(At|After|Before)$/.test(field.name));
    expect(namesOf(wrong)).toEqual(lasting);
  });

  test("that ends in At has a time", () => {
    expect(namesOf(fields.filter((field) => /[a-z]At$/.test(field.name) && !isTime(field)))).toEqual([]);
  });

  test("with a duration ends in its unit", () => {
    const duration =
      /timeout|duration|delay|interval|lag|latency|retry|expires|overlap|window|grace|oldestDue|rounding/i;
    const unit = /(Seconds|Minutes|Hours|Days|Ms)$/;
    const wrong = fields.filter((field) => isNumber(field) && duration.test(field.name) && !unit.test(field.name));
    expect(namesOf(wrong)).toEqual([]);
  });

  test("with money ends in Micros, or in the unit that it is for", () => {
    const money = /price|cost|amount|balance|credit|fee|micros|cents|usd/i;
    const wrong = fields.filter(
      (field) => isNumber(field) && money.test(field.name) && !/[mM]icros(PerMinute)?$/.test(field.name),
    );
    expect(namesOf(wrong)).toEqual([]);
  });

  test("with the id of a resource is called id or ends in Id", () => {
    // Who or what did it. A scope is `all` or an id.
    const others = ["createdBy", "replacedBy", "scope"];
    const wrong = fields.filter((field) => isIdSchema(field.schema) && !/^id$|Id$/.test(field.name));
    expect(namesOf(wrong).filter((name) => !others.includes(name))).toEqual([]);
    const lists = fields.filter(({ name, schema }) => isIdSchema(schema.items) && !name.endsWith("Ids"));
    expect(namesOf(lists)).toEqual([]);
  });

  test("with a list is a plural", () => {
    // `data` is the envelope of every response, `metadata` a filter; `changed` names the fields that changed.
    const others = ["changed", "data", "metadata"];
    const wrong = fields.filter(({ name, schema }) => has(schema, "array") && !name.endsWith("s"));
    expect(namesOf(wrong).filter((name) => !others.includes(name))).toEqual([]);
  });
});

describe("a value", () => {
  /** Names that others have chosen: of HTTP, of media types, of the voice provider's built-in tools. */
  const given =
    /^(Bearer|[A-Z]+|[a-z]+\/[a-z0-9.+-]+|(hangUp|leaveVoicemail|playDtmfSounds|coldTransfer|warmTransfer))$/;

  test("is written in snake_case", () => {
    const own = /^[a-z][a-z0-9]*(_[a-z0-9]+)*([.:][a-z0-9]+(_[a-z0-9]+)*)*$/;
    expect(values.filter((value) => !own.test(value) && !given.test(value))).toEqual([]);
  });

  test("has the one word for its meaning", () => {
    expect(values.filter((value) => value.startsWith("answer_"))).toEqual([]);
    const old = [
      "canceled",
      "success",
      "successful",
      "error",
      "errored",
      "in_progress",
      "kb",
      "dead_letter",
      "inactive",
    ];
    expect(values.filter((value) => old.includes(value))).toEqual([]);
  });
});

describe("an error code", () => {
  const adjectives =
    /_(not_\w+|in_use|in_progress|invalid|required|missing|busy|taken|forbidden|rejected|refused|unavailable|unreachable|suspended|disabled|expired|exceeded|reached|full|finished|running|reused|mismatch|malformed|unsupported|insufficient|overloaded|exists|too_large|timeout)$/;
  /** The field's own words for the most general failures. */
  const standard = ["unauthenticated", "internal_error"];

  test("names a thing, then what is wrong with it", () => {
    const codes = Object.keys(errorCodes);
    expect(codes.filter((code) => !adjectives.test(code) && !standard.includes(code))).toEqual([]);
  });
});

describe("a path", () => {
  test("is written in lower case with hyphens, and kb means knowledge bases", () => {
    const segments = Object.keys(document.paths).flatMap((path) => path.split("/").slice(1));
    const wrong = segments.filter((segment) => !/^(\{[a-z][A-Za-z]*\}|[a-z]+(-[a-z]+)*)$/.test(segment));
    expect([...new Set(wrong)]).toEqual([]);
    const old = ["knowledge", "knowledge-bases", "dispatch", "hooks", "orgs", "tenants"];
    expect(segments.filter((segment) => old.includes(segment))).toEqual([]);
  });
});

describe("an operation", () => {
  const verb = (procedure: string) => procedure.split(".").at(-1)!;

  test("that creates returns 201, or 202 while the work continues", () => {
    const creating = operations.filter(({ procedure }) => ["create", "presign"].includes(verb(procedure)));
    expect(creating.length).toBeGreaterThan(8);
    const wrong = creating.filter(({ meta }) => meta.status !== 201 && meta.status !== 202);
    expect(wrong.map(({ procedure }) => procedure)).toEqual([]);
  });

  test("is not named by an old verb", () => {
    const old = ["delete", "destroy", "add", "give", "drop", "clear", "fetch", "show", "read", "edit", "ask"];
    expect(operations.map(({ procedure }) => procedure).filter((name) => old.includes(verb(name)))).toEqual([]);
  });
});
