import { createHash } from "node:crypto";
import type { ProviderEvent } from "../../routers/providers.ts";
import type { Verify } from "./receiver.ts";

/** What the signature says: whose secret matched, and whether its time is within the window. */
export type SignatureVerdict =
  | { verdict: "valid" | "stale"; accountId: string; secretId: string }
  | { verdict: "refused"; reason: string };

type Options = {
  verifySignature: (
    rawBody: Buffer,
    timestampHeader: string | undefined,
    signatureHeader: string | undefined,
  ) => SignatureVerdict;
  readEvent: (rawBody: Buffer) => ProviderEvent;
};

const timestampHeader = "x-ultravox-webhook-timestamp";
const signatureHeader = "x-ultravox-webhook-signature";

/**
 * Ultravox sends no event id: an event is one by its name and its call, and a bill by what it says too, since it may
 * change. One signed outside the time window is kept apart from the one in time, and changes nothing: the provider will
 * be asked how the call stands.
 */
export function ultravoxWebhook({ verifySignature, readEvent }: Options): Verify {
  return (body, headers) => {
    const timestamp = header(headers[timestampHeader]);
    const found = verifySignature(body, timestamp, header(headers[signatureHeader]));
    if (found.verdict === "refused") return { refused: found.reason };
    const stale = found.verdict === "stale";
    return {
      received: {
        provider: "ultravox",
        providerAccountId: found.accountId,
        key: `${stale ? "stale:" : ""}${nameOf(body, readEvent)}`,
        body,
        headers: { [timestampHeader]: timestamp ?? "" },
        verifiedBy: found.secretId,
        stale,
      },
    };
  };
}

/** What is signed but not to be read is kept under its hash: it came from the provider, and somebody should look at it. */
function nameOf(body: Buffer, readEvent: Options["readEvent"]): string {
  try {
    const { event, call } = readEvent(body);
    const bill = event === "call.billed" ? `:${call.billing}:${call.billedSeconds}:${call.sipBilledSeconds}` : "";
    return `${event}:${call.providerCallId}${bill}`;
  } catch {
    return `unreadable:${createHash("sha256").update(body).digest("hex")}`;
  }
}

const header = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value);
