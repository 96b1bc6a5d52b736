import { generateOpenApiDocument, type OpenApiRouter } from "trpc-to-openapi";
import { z } from "zod";
import { definition, unwrapped } from "../../routers/core/schema-kind.ts";
import { isInternal, operationsOf, type RestOperation } from "../rest/operations.ts";
import { errorCodesOf } from "./errors.ts";
import { type Components, exampleRequestId, type JsonSchema } from "./examples.ts";
import { contact, introduction, license, securitySchemes } from "./openapi-text.ts";

type Schema = z.core.$ZodType;
type Ref = { $ref: string };
type Media = { schema: JsonSchema; example?: unknown };
type Headers = Record<string, object>;
type Parameter = { name: string; in: string; required?: boolean; description?: string; schema: JsonSchema };
type Response = { description: string; headers?: Headers; content?: Record<string, Media> } | Ref;

export type Operation = {
  operationId: string;
  summary: string;
  description: string;
  tags: string[];
  security: Record<string, string[]>[];
  parameters: (Parameter | Ref)[];
  requestBody?: { required: boolean; content: Record<string, Media> };
  responses: Record<string, Response>;
  deprecated?: boolean;
  "x-required-scope"?: string | null;
};

export type ApiDocument = {
  openapi: string;
  info: { title: string; version: string; description?: string };
  servers: { url: string; description?: string }[];
  tags?: { name: string; description: string; "x-displayName": string }[];
  externalDocs?: { url: string; description: string };
  paths: Record<string, Record<string, Operation>>;
  /** Webhooks by event type. */
  webhooks?: Record<string, { post: object }>;
  components: Record<string, Record<string, object>> & { schemas: Components };
};

const requestId = z
  .string()
  .meta({ description: "Quote it when you contact support about this request.", examples: [exampleRequestId] });
const cursor = z
  .string()
  .nullable()
  .meta({ description: "Pass it as `cursor` for the next page; null on the last.", examples: [null] });
const ResponseMeta = z.object({ requestId }).meta({ id: "ResponseMeta" });
const PageMeta = z
  .object({
    requestId,
    nextCursor: cursor,
    hasMore: z.boolean().meta({ examples: [false] }),
  })
  .meta({ id: "PageMeta" });

const Failure = z
  .object({
    code: z.enum(errorCodesOf).describe("For programs; it never changes."),
    message: z.string().describe("For people; it states what to do."),
    requestId,
    docUrl: z.string().describe("The documentation of this code."),
    details: z
      .array(
        z.object({
          path: z
            .string()
            .describe("The field, such as `steps.0.url`; for another resource its kind, such as `agent`."),
          message: z.string().describe("For people; it states what to do."),
          id: z.string().optional().describe("The id of the other resource, if the problem is one that uses this."),
          name: z.string().optional().describe("Its name."),
        }),
      )
      .optional()
      .describe("Each refused field, or each resource that prevents the change."),
  })
  .meta({ id: "Failure", description: "The body of every failure." });

/** The document as the generator writes it, for operations whose output is already wrapped in the envelope. */
export function generate(
  router: Parameters<typeof operationsOf>[0],
  { baseUrl, version }: { baseUrl: string; version: string },
) {
  const operations = operationsOf(router).filter((operation) => !isInternal(operation));
  const document = generateOpenApiDocument(asGeneratorInput(operations), {
    title: "Patchbay",
    description: introduction,
    version,
    baseUrl,
    openApiVersion: "3.1.1",
    contact,
    license,
    securitySchemes,
    defs: { Failure },
  });
  return { operations, document: asApiDocument(document) };
}

/** agents.create -> agentsCreate: a valid function name in every language. */
export const operationId = ({ procedure }: RestOperation) =>
  procedure.replace(/[.-](\w)/g, (_, first: string) => first.toUpperCase());

export const componentName = (operation: RestOperation, suffix: "Request" | "Response") => {
  const id = operationId(operation);
  return `${id.charAt(0).toUpperCase()}${id.slice(1)}${suffix}`;
};

/** The generator's type is a whole router, but it reads only these four fields of each procedure. */
function asGeneratorInput(operations: RestOperation[]): OpenApiRouter {
  const procedures = operations.map((operation) => {
    const openapi = { ...operation.rest, operationId: operationId(operation), errorResponses: [] };
    const inputs = operation.input ? [operation.takesBody ? operation.input : queryInput(operation.input)] : [];
    return [
      operation.procedure,
      { _def: { type: operation.type, meta: { openapi }, inputs, output: envelope(operation) } },
    ];
  });
  return { _def: { procedures: Object.fromEntries(procedures) } } as unknown as OpenApiRouter;
}

/** The generator's own type leaves every part optional: this type has the parts that it writes. */
function asApiDocument(generated: ReturnType<typeof generateOpenApiDocument>): ApiDocument {
  return generated as unknown as ApiDocument;
}

function envelope(operation: RestOperation): Schema {
  const { meta, item, output } = operation;
  if (meta.status === 204 || meta.produces) return z.void();
  const id = componentName(operation, "Response");
  if (item) return z.object({ data: z.array(item), meta: PageMeta }).meta({ id });
  const data = !output || definition(output).type === "void" ? z.null() : output;
  return z.object({ data, meta: ResponseMeta }).meta({ id });
}

const queryInput = (input: z.core.$ZodObject) =>
  z.strictObject(
    Object.fromEntries(Object.entries(input._zod.def.shape).map(([name, field]) => [name, queryField(field)])),
  );

/** The same field in a form that the generator can write as a parameter, with the metadata that it would lose. */
function queryField(field: Schema): Schema {
  const { id: _, ...words } = z.globalRegistry.get(field) ?? {};
  const value = unwrapped(field);
  const { type } = definition(value);
  if (type === "record") {
    const pair = z.string().regex(/^[^:]+:/);
    const hint = "Repeat it as `key:value`; all pairs must match.";
    return z
      .array(pair)
      .meta({ ...words, description: words.description ?? hint })
      .optional();
  }
  if (type === "union") return z.string().meta(words).optional();
  const def = definition(field);
  if (def.type !== "optional" || Object.keys(words).length === 0) return field;
  const inner = z.core.clone(def.innerType);
  const { id: __, ...innerWords } = z.globalRegistry.get(def.innerType) ?? {};
  z.globalRegistry.add(inner, { ...innerWords, ...words });
  return z.optional(inner);
}
