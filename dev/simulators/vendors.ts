import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

type Asked = { provider: string; path: string; headers: IncomingMessage["headers"] };
type Answer = { status: number; body: unknown };

/**
 * Simulates the vendors that verify clients' credentials, one path per vendor. A credential that contains `wrong` is
 * refused as that vendor refuses it, `narrow` lacks permissions, `down` makes the vendor unavailable.
 */
export type DevVendors = {
  /** The value for VENDOR_BASE_URLS. */
  baseUrls: Record<string, string>;
  requests: Asked[];
  close(): Promise<void>;
};

const paths: Record<string, { account: RegExp; voice?: RegExp }> = {
  elevenlabs: { account: /^\/v1\/user$/, voice: /^\/v1\/voices\/([^/]+)$/ },
  cartesia: { account: /^\/voices$/, voice: /^\/voices\/([^/]+)$/ },
  lmnt: { account: /^\/v1\/account$/, voice: /^\/v1\/ai\/voice\/([^/]+)$/ },
  telnyx: { account: /^\/v2\/balance$/ },
  twilio: { account: /^\/2010-04-01\/Accounts\/[^/]+\.json$/ },
  plivo: { account: /^\/v1\/Account\/[^/]+\/$/ },
};

const refusals: Record<string, unknown> = {
  elevenlabs: { detail: { status: "invalid_api_key", message: "Invalid API key" } },
  telnyx: { errors: [{ code: "10009", title: "Authentication failed", detail: "Could not understand the token." }] },
  twilio: { code: 20003, message: "Authenticate", status: 401 },
};
const narrow = {
  detail: { status: "missing_permissions", message: "The API key you used is missing the permission user_read." },
};

export async function startVendors({ port = 0 } = {}): Promise<DevVendors> {
  const requests: Asked[] = [];
  const server = createServer((request, response) => {
    const [, provider = "", ...rest] = new URL(request.url ?? "/", "http://vendors").pathname.split("/");
    const asked = { provider, path: `/${rest.join("/")}`, headers: request.headers };
    requests.push(asked);
    give(response, answer(asked));
  });
  server.keepAliveTimeout = 600_000; // a shorter time closes connections that a client is about to reuse
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    baseUrls: Object.fromEntries(Object.keys(paths).map((provider) => [provider, `${url}/${provider}`])),
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function answer({ provider, path, headers }: Asked): Answer {
  const known = paths[provider];
  const isAccount = known?.account.test(path);
  const voice = isAccount ? undefined : known?.voice?.exec(path)?.[1];
  if (!known || (!isAccount && voice === undefined)) return { status: 404, body: { detail: "Not found." } };
  const secret = secretIn(headers);
  if (!secret || secret.includes("wrong")) {
    return { status: 401, body: refusals[provider] ?? { error: "Invalid API key" } };
  }
  if (secret.includes("down")) return { status: 503, body: { detail: "Down." } };
  if (isAccount && secret.includes("narrow")) return { status: 401, body: narrow };
  if (voice?.includes("missing")) return { status: 404, body: { detail: "A voice with this id does not exist." } };
  return { status: 200, body: voice ? { id: voice } : { status: "active" } };
}

function secretIn({ authorization, ...headers }: IncomingMessage["headers"]): string | undefined {
  const [kind, value = ""] = authorization?.split(" ") ?? [];
  if (kind === "Basic") return Buffer.from(value, "base64").toString();
  return kind === "Bearer" ? value : [headers["xi-api-key"], headers["x-api-key"]].flat().find(Boolean);
}

function give(response: ServerResponse, { status, body }: Answer) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
