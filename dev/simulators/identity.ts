import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { dirname } from "node:path";
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose";
import { z } from "zod";
import { SetupProblem } from "./setup-problem.ts";

export type IdentityOptions = {
  /** Part of the issuer's name: tokens survive a restart only with a fixed port. Default: any free port. */
  port?: number;
  /** Stores the private keys (mode 0600). Without it they last as long as the process. */
  keyFile?: string;
  audience: string;
  /** The namespaced claim that lists the clients, such as https://patchbay.dev/client_ids. */
  claim: string;
};

export type TokenClaims = {
  sub: string;
  clients?: string[];
  scope?: string;
  expiresInSeconds?: number;
  /** Every other field is copied into the token, and can replace a standard claim. */
  [claim: string]: unknown;
};

export type Identity = {
  issuer: string;
  jwksUri: string;
  audience: string;
  token(claims: TokenClaims): Promise<string>;
  /** Signs with a new key from now on. Old keys stay published. */
  rotate(): Promise<void>;
  /** How many times the key set was fetched. */
  requests(): number;
  close(): Promise<void>;
};

const Keys = z.array(
  z.looseObject({ kty: z.literal("RSA"), kid: z.string(), n: z.string(), e: z.string(), d: z.string() }),
);
const TokenRequest = z.strictObject({
  sub: z.string().min(1),
  clients: z.array(z.string()).optional(),
  scope: z.string().optional(),
});

const dayInSeconds = 86_400;

/** An issuer that behaves like Auth0 for our checks: RS256, a key set, `iss` with its trailing slash. */
export async function startIdentity(options: IdentityOptions): Promise<Identity> {
  const keys = await loadKeys(options.keyFile);
  let fetches = 0;
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      console.error(error);
      send(response, 500, { error: "server_error" });
    });
  });
  server.keepAliveTimeout = 600_000; // a shorter time closes connections that a client is about to reuse
  const port = await listen(server, options.port ?? 0);
  const issuer = `http://127.0.0.1:${port}/`;
  const jwksUri = `${issuer}.well-known/jwks.json`;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // DNS rebinding: a page in the developer's browser can reach this address, but cannot choose the Host.
    if (![`127.0.0.1:${port}`, `localhost:${port}`].includes(request.headers.host ?? "")) {
      return send(response, 403, { error: "forbidden" });
    }
    switch (`${request.method} ${request.url}`) {
      case "GET /.well-known/openid-configuration":
        return send(response, 200, discovery(issuer, jwksUri));
      case "GET /.well-known/jwks.json":
        fetches++;
        return send(response, 200, { keys: keys.map(publicHalf) });
      case "POST /oauth/token":
        return await answerTokenRequest(request, response, token);
      default:
        return send(response, 404, { error: "not_found" });
    }
  }

  async function token(claims: TokenClaims): Promise<string> {
    const { clients, expiresInSeconds = dayInSeconds, ...own } = claims;
    const key = newest(keys);
    const iat = Math.floor(Date.now() / 1000);
    const standard = { iss: issuer, aud: options.audience, azp: "patchbay-local", iat, exp: iat + expiresInSeconds };
    return await new SignJWT({ ...standard, ...(clients && { [options.claim]: clients }), ...own })
      .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: key.kid })
      .sign(await importJWK(key, "RS256"));
  }

  return {
    issuer,
    jwksUri,
    audience: options.audience,
    token,
    async rotate() {
      keys.push(await newKey());
      await saveKeys(options.keyFile, keys);
    },
    requests: () => fetches,
    async close() {
      const closed = new Promise((done) => server.close(done));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answerTokenRequest(
  request: IncomingMessage,
  response: ServerResponse,
  token: (claims: TokenClaims) => Promise<string>,
): Promise<void> {
  const input = TokenRequest.safeParse(await bodyOf(request));
  if (!input.success) {
    return send(response, 400, { error: "invalid_request", error_description: z.prettifyError(input.error) });
  }
  const access_token = await token(input.data);
  send(response, 200, { access_token, token_type: "Bearer", expires_in: dayInSeconds });
}

/** The parsed body, or undefined when it is not JSON or is too long. No schema accepts undefined. */
async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) {
    text += chunk;
    if (text.length > 65_536) return undefined;
  }
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function discovery(issuer: string, jwksUri: string): Record<string, unknown> {
  return {
    issuer,
    jwks_uri: jwksUri,
    token_endpoint: `${issuer}oauth/token`,
    id_token_signing_alg_values_supported: ["RS256"],
    response_types_supported: ["token"],
    subject_types_supported: ["public"],
  };
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(JSON.stringify(body));
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((listening, failed) => {
    server.once("error", failed).listen(port, "127.0.0.1", listening);
  }).catch((error: unknown) => {
    throw new SetupProblem(
      `The local identity provider cannot listen on port ${port}: stop what uses it, or choose another.`,
      {
        cause: error,
      },
    );
  });
  const address = server.address();
  return address !== null && typeof address === "object" ? address.port : port;
}

type Key = JWK & { kty: "RSA"; kid: string };

async function loadKeys(keyFile: string | undefined): Promise<Key[]> {
  if (keyFile && existsSync(keyFile)) return await readKeys(keyFile);
  const keys = [await newKey()];
  await saveKeys(keyFile, keys);
  return keys;
}

async function readKeys(keyFile: string): Promise<Key[]> {
  const text = await fs.readFile(keyFile, "utf8");
  try {
    return Keys.nonempty().parse(JSON.parse(text));
  } catch {
    // No cause: it could quote the file.
    throw new SetupProblem(`${keyFile} holds no readable signing keys. Remove it; new keys are then created.`);
  }
}

async function saveKeys(keyFile: string | undefined, keys: Key[]): Promise<void> {
  if (!keyFile) return;
  await fs.mkdir(dirname(keyFile), { recursive: true });
  await fs.writeFile(`${keyFile}.new`, JSON.stringify(keys), { mode: 0o600 });
  await fs.rename(`${keyFile}.new`, keyFile);
}

async function newKey(): Promise<Key> {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const jwk = await exportJWK(privateKey);
  return { ...jwk, kty: "RSA", kid: await calculateJwkThumbprint(jwk) };
}

function newest(keys: Key[]): Key {
  const key = keys.at(-1);
  if (!key) throw new Error("an issuer has at least one key");
  return key;
}

function publicHalf({ kty, kid, n, e }: Key): JWK {
  return { kty, kid, n, e, alg: "RS256", use: "sig" };
}
