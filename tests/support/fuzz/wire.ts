import { Agent, request } from "node:http";
import type { RestOperation } from "../../../edge/rest/operations.ts";
import { jsonOf } from "./values.ts";

/** A request as bytes. */
export type Wire = {
  transport: "rest" | "trpc";
  method: string;
  path: string;
  query: string;
  headers: Record<string, string>;
  body: string | Buffer | undefined;
};
export type WireAnswer = { status: number; headers: Record<string, string | string[] | undefined>; body: Buffer };
type WireMutation = { label: string; wire: (wire: Wire) => Wire | null };

/** A lone surrogate has no UTF-8 form: its three bytes are sent, as a careless client would. */
const encoded = (text: string) =>
  encodeURIComponent(text.replace(/\p{Surrogate}/gu, "\ufffd")).replaceAll("%EF%BF%BD", "%ED%A0%BD");

function queryOf(name: string, value: unknown): string[] {
  const pair = (text: string) => `${encoded(name)}=${encoded(text)}`;
  if (Array.isArray(value)) return value.slice(0, 500).map((item) => pair(textOf(item)));
  if (typeof value !== "object" || value === null) return [pair(textOf(value))];
  return Object.entries(value)
    .slice(0, 500)
    .map(([key, inner]) => pair(`${key}:${textOf(inner)}`));
}

const textOf = (value: unknown) => (typeof value === "string" ? value : (jsonOf(value) ?? ""));

/** The input on one transport. A missing path parameter leaves its segment empty. */
export function wireOf(
  transport: Wire["transport"],
  operation: RestOperation,
  input: Record<string, unknown>,
  key: string,
): Wire {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  if (transport === "trpc") {
    const text = jsonOf(input);
    const isMutation = operation.type === "mutation";
    const query = isMutation || !operation.input ? "" : `input=${encoded(text ?? "")}`;
    const path = `/trpc/${operation.procedure}`;
    return {
      transport,
      method: isMutation ? "POST" : "GET",
      path,
      query,
      headers,
      body: isMutation ? text : undefined,
    };
  }
  const { rest, params, takesBody } = operation;
  const filled = rest.path.replace(/\{(\w+)\}/g, (_, name: string) => encoded(textOf(input[name] ?? "")));
  const path = rest.path.startsWith("/internal/") ? filled : `/api/v1${filled}`;
  const left = Object.entries(input).filter(([name]) => !params.includes(name));
  const query = takesBody ? "" : left.flatMap(([name, value]) => queryOf(name, value)).join("&");
  const body = takesBody ? jsonOf(Object.fromEntries(left)) : undefined;
  return { transport, method: rest.method, path, query, headers, body };
}

const header = (name: string, value: string): WireMutation => ({
  label: `${name}: ${JSON.stringify(value.slice(0, 40))}`,
  wire: (wire) => ({ ...wire, headers: { ...wire.headers, [name]: value } }),
});
const query = (text: string): WireMutation => ({
  label: `the query ${text.slice(0, 40)}`,
  wire: (wire) => ({ ...wire, query: wire.query ? `${wire.query}&${text}` : text }),
});
const body = (label: string, bytes: string | Buffer): WireMutation => ({
  label: `the body is ${label}`,
  wire: (wire) => (wire.body === undefined ? null : { ...wire, body: bytes }),
});

/** Errors of a request that do not depend on its fields. */
export const wireMutations: WireMutation[] = [
  ...["", " ", "a b", "ü", "k".repeat(256), '"unbalanced', '""'].map((key) => header("idempotency-key", key)),
  {
    label: "two idempotency keys",
    wire: (wire) => ({ ...wire, headers: { ...wire.headers, "idempotency-key": "one", "x-idempotency-key": "two" } }),
  },
  ...["", "x", "client_01m82knxfbfrssk0x3en012rbf", "constructor", "x".repeat(5000)].map((id) =>
    header("x-client-id", id),
  ),
  ...["", "a b", "x".repeat(200), "../x"].map((id) => header("x-request-id", id)),
  ...["", "text/plain", "application/json; charset=utf-16", "application/json,text/html", "multipart/form-data"].map(
    (type) => header("content-type", type),
  ),
  ...["Bearer", "Bearer ", "Basic YTpi", "Bearer a.b.c", `Bearer ${"x".repeat(4000)}`, "Bearer pb_live_x"].map(
    (value) => header("authorization", value),
  ),
  header("content-encoding", "gzip"),
  header("accept", "text/html"),
  header("trpc-accept", "application/jsonl"),
  ...[
    "surprise=1",
    "surprise=1&surprise=2",
    "__proto__=1",
    "constructor=1",
    "a[b]=1",
    "=1",
    "&&",
    "%",
    "%zz=1",
    "%00=1",
  ].map(query),
  ...[
    "limit=5&limit=6",
    "limit=%D9%A3",
    "limit=0x10",
    "limit=+5",
    "limit=1e1",
    "limit=",
    "limit=5.0",
    "cursor=",
    "cursor=a.b",
  ].map(query),
  ...[`cursor=${"x".repeat(2000)}`, "cursor=%00.%00", "batch=1", "batch=x", "input=%7B", "input=null", "input=[]"].map(
    query,
  ),
  body("a list", "[]"),
  body("null", "null"),
  body("a number", "5"),
  body("a text", '"x"'),
  body("cut off", '{"name":"x'),
  body("two objects", "{}{}"),
  body("nothing", ""),
  body("spaces", "   "),
  body("a byte order mark", Buffer.from("\ufeff{}")),
  body("no UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])),
  body("one name twice", '{"name":"a","name":"b"}'),
  body("2500 objects deep", `${'{"a":'.repeat(2500)}1${"}".repeat(2500)}`),
  body("a megabyte and more", `{"name":"${"x".repeat(1_050_000)}"}`),
  { label: "the path ends in a slash", wire: (wire) => ({ ...wire, path: `${wire.path}/` }) },
  { label: "the path has a point", wire: (wire) => ({ ...wire, path: `${wire.path}/..` }) },
  { label: "the path ends in %00", wire: (wire) => ({ ...wire, path: `${wire.path}%00` }) },
  { label: "the path ends in %2f", wire: (wire) => ({ ...wire, path: `${wire.path}%2f` }) },
  { label: "the path has a broken escape", wire: (wire) => ({ ...wire, path: `${wire.path}%ff` }) },
  {
    label: "another method",
    wire: (wire) => ({ ...wire, method: wire.method === "GET" ? "POST" : "GET", body: undefined }),
  },
];

const agent = new Agent({ keepAlive: true, maxSockets: 8 });
const patienceMs = 30_000;

/** Sends it without a library that would repair it. */
export function sendWire(url: string, { method, path, query, headers, body }: Wire): Promise<WireAnswer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const bytes = body === undefined ? 0 : Buffer.byteLength(body);
    const length = body === undefined ? {} : { "content-length": bytes };
    // A connection is not reused: the server may have refused a large body halfway.
    const through = bytes > 100_000 ? false : agent;
    const options = {
      agent: through,
      hostname,
      port,
      method,
      path: query ? `${path}?${query}` : path,
      timeout: patienceMs,
    };
    const sent = request({ ...options, headers: { ...headers, ...length } }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) });
      });
    });
    sent.on("timeout", () => sent.destroy(new Error(`no answer within ${patienceMs} ms`)));
    sent.on("error", reject);
    sent.end(body);
  });
}

export const closeWire = () => agent.destroy();
