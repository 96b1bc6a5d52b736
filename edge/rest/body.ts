import { isUtf8 } from "node:buffer";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { ApiError } from "../../routers/core/errors.ts";
import { parseJsonObject } from "../json/limits.ts";

export type BodyLimits = {
  maxBodyBytes: number;
  bodyDeadlineSeconds: number;
  /** Takes room for bytes that have arrived. Throws ApiError where there is none. */
  takeRoom?: ((req: IncomingMessage, bytes: number) => void) | undefined;
  /** Called when a body has arrived, before it is parsed. */
  onArrived?: ((req: IncomingMessage) => Promise<void>) | undefined;
};

/** The caller closed the connection during the body: no response can be sent. */
export class CallerGone extends Error {}

/** Whether the request announces a body. A length of zero is no body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/** The parsed body. No body is an empty object. */
export async function readJsonObject(req: IncomingMessage, limits: BodyLimits): Promise<Record<string, unknown>> {
  return { ...parseJsonObject(await readJsonText(req, limits)) };
}

/** The text of a JSON body, not parsed. Empty if there is no body. */
export async function readJsonText(req: IncomingMessage, limits: BodyLimits): Promise<string> {
  if (!hasBody(req)) return "";
  const wrongType = typeRefusal(req.headers);
  const announced = Number(req.headers["content-length"] ?? 0);
  if (wrongType && announced > 0) throw wrongType;
  if (announced > limits.maxBodyBytes) throw tooLarge(limits);
  const bytes = await readBytes(req, limits);
  if (bytes.length === 0) return "";
  if (wrongType) throw wrongType;
  await limits.onArrived?.(req);
  return textOf(bytes);
}

function typeRefusal({
  "content-type": type,
  "content-encoding": encoding,
}: IncomingHttpHeaders): ApiError | undefined {
  if (encoding && encoding.toLowerCase() !== "identity") {
    return new ApiError("media_type_unsupported", "Send the body uncompressed, without Content-Encoding.");
  }
  if (type === "application/json") return;
  const [media, ...parameters] = (type ?? "").toLowerCase().split(";");
  const charsets = parameters.map((part) => part.trim()).filter((part) => part.startsWith("charset="));
  if (media?.trim() === "application/json" && charsets.every((part) => /^charset="?utf-?8"?$/.test(part))) return;
  return new ApiError("media_type_unsupported");
}

const tooLarge = ({ maxBodyBytes }: BodyLimits) =>
  new ApiError("payload_too_large", `The body is larger than ${maxBodyBytes} bytes.`);

/** All bytes, within the size and time limits: a slow body holds a connection, but no worker. */
function readBytes(req: IncomingMessage, limits: BodyLimits): Promise<Buffer> {
  if (req.readableEnded) throw new Error("Another middleware has read this body. Mount the REST router before it.");
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limits.maxBodyBytes) return fail(tooLarge(limits));
      try {
        limits.takeRoom?.(req, chunk.length);
      } catch (error) {
        fail(error as ApiError);
      }
    };
    const onEnd = () => {
      stop();
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size));
    };
    const fail = (error: Error) => {
      stop();
      reject(error);
    };
    const onGone = () => fail(new CallerGone());
    const late = () =>
      fail(new ApiError("json_invalid", `The body did not arrive within ${limits.bodyDeadlineSeconds} s.`));
    const timer = setTimeout(late, limits.bodyDeadlineSeconds * 1000);
    const stop = () => {
      clearTimeout(timer);
      req.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone);
    };
    req.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone);
  });
}

function textOf(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new ApiError("json_invalid", "The body is not valid UTF-8.");
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw new ApiError("json_invalid", "The body begins with a byte order mark. Send plain UTF-8.");
  }
  return bytes.toString("utf8");
}
