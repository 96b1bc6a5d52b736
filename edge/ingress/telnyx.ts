import { idPattern } from "../../db/ids.ts";
import { callInAddress } from "../../routers/ingress/service.ts";
import type { Telnyx } from "../../routers/ports/carriers.ts";
import { header, refused, unreadable, type Verify } from "./receiver.ts";

type SignatureVerdict =
  | { verdict: "valid"; accountId: string; keyId: string; timestampSeconds: number }
  | { verdict: "stale" | "forged"; reason: string };

type Options = {
  /** `clientId`: the client whose own key may have signed too; null: only the installation's keys. */
  verifySignature: (
    clientId: string | null,
    rawBody: Buffer,
    timestampHeader: string | undefined,
    signatureHeader: string | undefined,
  ) => Promise<SignatureVerdict>;
  readEvent: Telnyx["readEvent"];
};

/**
 * The URL may name a client, whose own key may have signed, and a call: we gave it to Telnyx with the call. Its parameters
 * are not signed: they only show where to look, and a client's key can change only that client's calls.
 */
export function telnyxWebhook({ verifySignature, readEvent }: Options): Verify {
  return async (body, headers, query) => {
    const [client, call] = [paramOf("client", query), paramOf("call", query)];
    if (client === undefined || call === undefined) {
      return { refused: "The URL names no valid client or call.", told: "The URL is not one that we provided." };
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
          ...(call !== null && { [callInAddress]: call }),
        },
        verifiedBy: found.keyId,
        stale: false,
        ...(isClients ? { clientId: client } : {}),
      },
    };
  };
}

/** null: absent; undefined: invalid or repeated. */
function paramOf(kind: "client" | "call", query: URLSearchParams): string | null | undefined {
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
