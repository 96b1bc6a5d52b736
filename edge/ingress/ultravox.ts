import { createHash } from "node:crypto";
import type { Received } from "../../routers/ingress/service.ts";
import type { ProviderEvent } from "../../routers/ports/ultravox.ts";
import { header, unreadable, type Verify } from "./receiver.ts";

/** What the signature says: whose secret matched, and whether its time is within the window. */
export type SignatureVerdict =
  | { verdict: "valid" | "stale"; accountId: string; secretId: string }
  | { verdict: "refused"; reason: string };

type Options = {
  /** `accountId`: by whose secrets alone; null: by those of the environment. */
  verifySignature: (
    accountId: string | null,
    rawBody: Buffer,
    timestampHeader: string | undefined,
    signatureHeader: string | undefined,
  ) => Promise<SignatureVerdict>;
  readEvent: (rawBody: Buffer) => ProviderEvent;
};

const timestampHeader = "x-ultravox-webhook-timestamp";
const signatureHeader = "x-ultravox-webhook-signature";

/**
 * Ultravox sends no event id: an event is one by its name and its call, and a bill by what it says too, since it may
 * change. One signed outside the time window is kept apart from the one in time, and changes nothing: the provider will
 * be asked how the call stands. A client's own account is named in the address, and only its own secret will do.
 */
export function ultravoxWebhook({ verifySignature, readEvent }: Options): Verify {
  return async (body, headers, query) => {
    const timestamp = header(headers[timestampHeader]);
    const [accountId = null, ...more] = query.getAll("account");
    if (more.length > 0 || !isAccountId(accountId)) return { refused: "The address names no account." };
    const found = await verifySignature(accountId, body, timestamp, header(headers[signatureHeader]));
    if (found.verdict === "refused") return { refused: found.reason };
    const stale = found.verdict === "stale";
    const { key, eventType } = nameOf(body, readEvent);
    return {
      received: {
        provider: "ultravox",
        providerAccountId: found.accountId,
        key: `${stale ? "stale:" : ""}${key}`,
        eventType,
        body,
        headers: { [timestampHeader]: timestamp ?? "" },
        verifiedBy: found.secretId,
        stale,
      },
    };
  };
}

/** What is signed but not to be read is kept under its hash: it came from the provider, and somebody should look at it. */
function nameOf(body: Buffer, readEvent: Options["readEvent"]): Pick<Received, "key" | "eventType"> {
  try {
    const told = readEvent(body);
    // What makes an event of an unknown kind one, nobody can say: it is one by its bytes.
    if (told.event === "other") {
      return { key: `${told.name}:${createHash("sha256").update(body).digest("hex")}`, eventType: told.name };
    }
    const { event, call } = told;
    const bill = event === "call.billed" ? `:${call.billing}:${call.billedSeconds}:${call.sipBilledSeconds}` : "";
    return { key: `${event}:${call.providerCallId}${bill}`, eventType: event };
  } catch {
    return unreadable(body);
  }
}

const isAccountId = (value: string | null) => value === null || /^pacc_[a-z0-9_]{1,40}$/.test(value);
