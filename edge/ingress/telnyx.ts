import { idPattern } from "../../db/ids.ts";
import { callInAddress } from "../../routers/ingress/service.ts";
import type { Telnyx } from "../../routers/ports/carriers.ts";
import { header, refused, unreadable, type Verify } from "./receiver.ts";

type SignatureVerdict =
  | { verdict: "valid"; accountId: string; keyId: string; timestampSeconds: number }
  | { verdict: "stale" | "forged"; reason: string };

type Options = {
  /** `clientId`: whose own key may have signed too; null: those of the installation alone. */
  verifySignature: (
    clientId: string | null,
    rawBody: Buffer,
    timestampHeader: string | undefined,
    signatureHeader: string | undefined,
  ) => Promise<SignatureVerdict>;
  readEvent: Telnyx["readEvent"];
};

/**
 * The address may name a client, whose own key may have signed, and a call: we gave it to Telnyx with the call. What it
 * names is not signed; it only says where to look, and whoever's key it was moves no call but his own.
 */
export function telnyxWebhook({ verifySignature, readEvent }: Options): Verify {
  return async (body, headers, query) => {
    const [client, call] = [named("client", query), named("call", query)];
    if (client === undefined || call === undefined) {
      return { refused: "The address names no client, or no call.", told: "The address is not one that we gave." };
    }
    const timestamp = header(headers["telnyx-timestamp"]);
    const found = await verifySignature(client, body, timestamp, header(headers["telnyx-signature-ed25519"]));
    if (found.verdict !== "valid") return refused(found);
    const isClients = client !== null && found.accountId.startsWith("cred_");
    return {
      received: {
        provider: "telnyx",
        providerAccountId: found.accountId,
        ...nameOf(body, readEvent),
        body,
        headers: {
          "content-type": header(headers["content-type"]) ?? "",
          "telnyx-timestamp": String(found.timestampSeconds),
          ...(call === null ? {} : { [callInAddress]: call }),
        },
        verifiedBy: found.keyId,
        stale: false,
        ...(isClients ? { clientId: client } : {}),
      },
    };
  };
}

/** null: not named; undefined: named badly, or twice. */
function named(kind: "client" | "call", query: URLSearchParams): string | null | undefined {
  const [value = null, ...more] = query.getAll(kind);
  if (value === null) return null;
  return more.length === 0 && idPattern(kind).test(value) ? value : undefined;
}

function nameOf(body: Buffer, readEvent: Telnyx["readEvent"]) {
  try {
    const { key, type } = readEvent(body);
    return { key, eventType: type };
  } catch {
    return unreadable(body);
  }
}
