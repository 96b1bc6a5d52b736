import type { IncomingMessage } from "node:http";
import { ApiError, type ErrorDetail } from "../../routers/core/errors.ts";
import { noSuchField } from "../../routers/core/validation-messages.ts";
import { isForbiddenKey } from "../json/limits.ts";
import { type BodyLimits, hasBody, readJsonObject } from "./body.ts";
import type { RestOperation } from "./operations.ts";
import { type Reader, readerOf } from "./query.ts";

export type InputReader = (req: IncomingMessage, query: string, params: Map<string, string>) => Promise<unknown>;

/** Builds the input of one operation. The schema is inspected here, once, and not per request. */
export function inputReader(operation: RestOperation, limits: BodyLimits): InputReader {
  const readers = new Map<string, Reader>();
  for (const [name, schema] of Object.entries(operation.input?._zod.def.shape ?? {})) {
    if (!operation.takesBody || operation.params.includes(name))
      readers.set(name, readerOf(schema, `${operation.procedure}: ${name}`));
  }
  const finish = operation.input ? (input: Record<string, unknown>) => input : refuseAnything;
  if (operation.takesBody) {
    return async (req, query, params) => {
      refuseQuery(query, operation.rest.method);
      const body = await readJsonObject(req, limits);
      for (const name of params.keys()) if (Object.hasOwn(body, name)) throw ApiError.invalidFields([inThePath(name)]);
      return finish(withParams(body, params, readers));
    };
  }
  return async (req, query, params) => {
    if (hasBody(req)) throw new ApiError("input_invalid", `A ${operation.rest.method} request takes no body.`);
    return finish(withParams(query ? readQuery(query, params, readers) : {}, params, readers));
  };
}

function withParams(input: Record<string, unknown>, params: Map<string, string>, readers: Map<string, Reader>) {
  for (const [name, text] of params) input[name] = readers.get(name)?.([text], name) ?? text;
  return input;
}

function readQuery(query: string, params: Map<string, string>, readers: Map<string, Reader>): Record<string, unknown> {
  const input: Record<string, unknown> = {};
  for (const [name, texts] of grouped(query)) {
    if (isForbiddenKey(name)) throw ApiError.invalidFields([{ path: name, message: "This name is not allowed." }]);
    if (params.has(name)) throw ApiError.invalidFields([inThePath(name)]);
    const reader = readers.get(name);
    // A name that the schema does not have is passed on unchanged, so that the schema refuses it by name.
    input[name] = reader ? reader(texts, name) : texts.length > 1 ? texts : texts[0];
  }
  return input;
}

function grouped(query: string): Map<string, string[]> {
  checkEscapes(query);
  const groups = new Map<string, string[]>();
  for (const [name, text] of new URLSearchParams(query)) {
    const texts = groups.get(name);
    if (texts) texts.push(text);
    else groups.set(name, [text]);
  }
  return groups;
}

/** URLSearchParams repairs malformed escapes; they are refused here instead. */
function checkEscapes(query: string): void {
  if (!query.includes("%")) return;
  try {
    decodeURIComponent(query);
  } catch {
    throw new ApiError("input_invalid", "The query string has a malformed percent escape.");
  }
}

function refuseQuery(query: string, method: string): void {
  if (!query) return;
  const details = [...grouped(query).keys()].map((path) => ({ path, message: "Send it in the body." }));
  if (details.length > 0)
    throw new ApiError("input_invalid", `A ${method} request takes no query string. Send the fields in the body.`, {
      details,
    });
}

function refuseAnything(input: Record<string, unknown>): undefined {
  const details = Object.keys(input).map((path) => ({ path, message: noSuchField }));
  if (details.length > 0) throw ApiError.invalidFields(details);
}

const inThePath = (path: string): ErrorDetail => ({ path, message: "This field is in the path. Omit it." });
