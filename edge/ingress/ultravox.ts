import { createHash } from "node:crypto";
import type { Received } from "../../routers/ingress/service.ts";
import type { ProviderEvent } from "../../routers/ports/ultravox.ts";
import { header, unreadable, type Verify } from "./receiver.ts";

/** Whose secret matched, and whether the timestamp is within the window. */
export type SignatureVerdict =
  | { verdict: "valid" | "stale"; accountId: string; secretId: string }
  | { verdict: "refused"; reason: string };

type Options = {
  /** `accountId`: only its own secrets; null: those of the environment. */
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
 * Ultravox sends no event id. An event is identified by its type and its call, and a bill also by its content, because it
 * may change. An event outside the time window is stored separately, and changes nothing: the call is then read from the
 * provider. A client's own account is named in the URL, and only its own secret is accepted.
 */
export function ultravoxWebhook({ verifySignature, readEvent }: Options): Verify {
  return async (body, headers, query) => {
    const timestamp = header(headers[timestampHeader]);
    const [accountId = null, ...more] = query.getAll("account");
    if (more.length > 0 || !isAccountId(accountId)) return { refused: "The URL names no valid account." };
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

/** A signed body that cannot be parsed is stored under its hash: it came from the provider, and an operator should see it. */
function nameOf(body: Buffer, readEvent: Options["readEvent"]): Pick<Received, "key" | "eventType"> {
  try {
    const parsed = readEvent(body);
    // An event of an unknown type has no known identity, so its hash is its key.
    if (parsed.event === "other") {
      return { key: `${parsed.name}:${createHash("sha256").update(body).digest("hex")}`, eventType: parsed.name };
    }
    const { event, call } = parsed;
    const bill = event === "call.billed" ? `:${call.billing}:${call.billedSeconds}:${call.sipBilledSeconds}` : "";
    return { key: `${event}:${call.providerCallId}${bill}`, eventType: event };
  } catch {
    return unreadable(body);
  }
}

const isAccountId = (value: string | null) => value === null || /^pacc_[a-z0-9_]{1,40}$/.test(value);
