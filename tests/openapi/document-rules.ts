import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import type { ApiDocument } from "../../edge/openapi/document.ts";

const methods = new Set(["get", "put", "post", "delete", "options", "head", "patch", "trace"]);

type Json = Record<string, unknown>;
type Operation = { operationId?: string; tags?: string[]; security?: Record<string, unknown>[] };
type Place = { path: string; value: Json };

/** What redocly does not check: operation ids, tags, examples against their schemas, unused components. */
export function findingsIn(document: ApiDocument): string[] {
  const plain = JSON.parse(JSON.stringify(document)) as Json;
  return [...operationIds(plain), ...tags(plain), ...examples(plain), ...unusedComponents(plain)];
}

function operationsOf({ paths, webhooks }: Json): { path: string; operation: Operation }[] {
  const items = { ...(paths as Json), ...(webhooks as Json) } as Record<string, Record<string, Operation>>;
  return Object.entries(items).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, operation]) =>
      methods.has(method) ? [{ path: `${method} ${path}`, operation }] : [],
    ),
  );
}

function operationIds(document: Json): string[] {
  const seen = new Set<string>();
  return operationsOf(document).flatMap(({ path, operation: { operationId = "" } }) => {
    const isRepeated = seen.has(operationId);
    seen.add(operationId);
    if (!/^[a-z][A-Za-z0-9]*$/.test(operationId)) return [`${path}: the operationId "${operationId}" is not camelCase`];
    return isRepeated ? [`${path}: the operationId "${operationId}" is used twice`] : [];
  });
}

function tags(document: Json): string[] {
  const declared = (document.tags ?? []) as { name: string; description?: string }[];
  const names = declared.map(({ name }) => name);
  const operations = operationsOf(document);
  return [
    ...declared.filter(({ description }) => !description).map(({ name }) => `the tag "${name}" has no description`),
    ...names
      .filter((name, index) => names.indexOf(name) !== index)
      .map((name) => `the tag "${name}" is declared twice`),
    ...operations.flatMap(({ path, operation: { tags = [] } }) => (tags.length === 0 ? [`${path} has no tag`] : [])),
    ...operations.flatMap(({ path, operation: { tags = [] } }) =>
      tags.filter((tag) => !names.includes(tag)).map((tag) => `${path}: the tag "${tag}" is not declared`),
    ),
  ];
}

/** An example is beside its schema (bodies, parameters, headers) or within it, as `examples`. */
function examples(document: Json): string[] {
  const ajv = new Ajv2020({ strict: false, code: { optimize: false }, inlineRefs: false });
  formats.default(ajv);
  ajv.addSchema({ ...document, $id: "doc" });
  // Equal schemas are compiled once: the document repeats the schema of an error in each operation.
  const validators = new Map<string, ValidateFunction>();
  const validatorOf = (schema: Json, pointer: string) => {
    const key = JSON.stringify(schema);
    const validator = validators.get(key) ?? ajv.compile({ $ref: `doc#${pointer}` });
    validators.set(key, validator);
    return validator;
  };
  return placesIn(document).flatMap(({ path, value }) => {
    const schema = isObject(value.schema) ? value.schema : value;
    const beside = isObject(value.schema) ? exampleValuesOf(value) : [];
    const within = Array.isArray(value.examples) ? value.examples : [];
    const given = [...beside, ...within];
    if (given.length === 0) return [];
    const isValid = validatorOf(schema, schema === value ? path : `${path}/schema`);
    return given.flatMap((example) =>
      isValid(example) ? [] : [`${path}: ${JSON.stringify(example)} ${ajv.errorsText(isValid.errors)}`],
    );
  });
}

function exampleValuesOf({ example, examples }: Json): unknown[] {
  const named = isObject(examples) ? Object.values(examples).map((each) => (each as Json).value) : [];
  return [...(example === undefined ? [] : [example]), ...named];
}

/** Every object of the document with its JSON pointer. The content of examples is data, not part of the document. */
function placesIn(value: unknown, path = ""): Place[] {
  if (Array.isArray(value)) return value.flatMap((each, index) => placesIn(each, `${path}/${index}`));
  if (!isObject(value)) return [];
  const inner = Object.entries(value).flatMap(([key, each]) => {
    if (!path.endsWith("/properties") && isData(key, each)) return [];
    return placesIn(each, `${path}/${encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1"))}`);
  });
  return [{ path, value }, ...inner];
}

const isData = (key: string, value: unknown) =>
  key === "example" || key === "default" || key === "const" || key === "enum" || (key === "examples" && value !== null);

function unusedComponents(document: Json): string[] {
  const referenced = new Set(Array.from(JSON.stringify(document).matchAll(/"\$ref":"#([^"]+)"/g), ([, path]) => path!));
  const schemes = new Set(
    operationsOf(document).flatMap(({ operation }) => (operation.security ?? []).flatMap(Object.keys)),
  );
  const components = Object.entries((document.components ?? {}) as Record<string, Json>);
  return components.flatMap(([kind, members]) =>
    Object.keys(members)
      .filter((name) =>
        kind === "securitySchemes" ? !schemes.has(name) : !referenced.has(`/components/${kind}/${name}`),
      )
      .map((name) => `the component ${kind}/${name} is not used`),
  );
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
