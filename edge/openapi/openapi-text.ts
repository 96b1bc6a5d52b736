import { clientFactor, limits } from "../../routers/core/limits.ts";
import { scopes } from "../../routers/core/scopes.ts";

const limitLines = Object.entries(limits)
  .map(([name, { requests, windowSeconds }]) => `- \`${name}\`: ${requests} requests in ${windowSeconds} seconds`)
  .join("\n");

/** What a reader must know before the first request. */
export const introduction = `An API for voice agents: voices, knowledge, tools, phone calls, webhooks and prepaid credits.

## Authentication
Every request carries \`Authorization: Bearer <token>\`: an API key (\`pb_live_…\`, \`pb_test_…\`) or a user's access token.
An API key belongs to one client. A user of several clients selects one with \`X-Client-Id\`.
Each operation requires one scope; a key has a list of scopes, a role is a set of them.
Operations under \`/admin\` are only for operators of the installation, with their own tokens.

## Requests and responses
Bodies are JSON objects in UTF-8 and are parsed strictly: an unknown field, or a number sent as a string, is refused by name.
A success is \`{ "data", "meta" }\`. Timestamps are ISO 8601 in UTC; durations are in seconds; money is in whole micros.
Every response carries \`X-Request-Id\`; quote it when you contact support. Paths are case-sensitive.

## Idempotency
Send \`Idempotency-Key\` (or \`X-Idempotency-Key\`) with every POST, PUT and PATCH. For 24 hours the same request with the same
key is executed once: later ones get the first response, with \`Idempotency-Replayed: true\`.
The same key with another request is refused with 422; while the first request is running, the response is 409.

## Pagination
Lists are newest first. \`limit\` is 20 by default and at most 100. For the next page, pass \`meta.nextCursor\` as \`cursor\`,
with the same filters, until \`meta.hasMore\` is false. Two short lists have no pages: providers and event types.

## Errors
A failure is \`{ "error": { "code", "message", "requestId", "docUrl", "details" } }\`. \`code\` is for programs and never changes;
\`message\` is for people and states what to do; \`details\` names each refused field. See the [error guide](/docs/errors).

## Rate limits
Requests are counted for each key or person, by class of operation; all keys and members of a client together may make
${clientFactor} times as many. The response to a counted request has what is left in \`RateLimit\` and
\`RateLimit-Policy\`, failures and unreadable bodies included. A request that is refused earlier (401, most of 403) is not
counted and lacks these headers. Many concurrent requests of one client wait for each other while other clients are
active; a 429 without these headers means that too many wait. A 429 carries \`Retry-After\` in seconds. The classes:

${limitLines}
`;

export const contact = { name: "Patchbay support", email: "support@patchbay.dev" };
export const license = { name: "Proprietary", identifier: "LicenseRef-Proprietary" };

const scopeList = scopes.map((scope) => `\`${scope}\``).join(", ");

export const securitySchemes = {
  apiKey: {
    type: "http",
    scheme: "bearer",
    bearerFormat: "pb_live_… or pb_test_…",
    description: `An API key of one client, with the scopes it was given: ${scopeList}.`,
  },
  accessToken: {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
    description:
      "A user's access token (RS256). The user's role in the client grants the scopes; a `scope` or `permissions` claim limits them.",
  },
} as const;

/** The tags in the order in which a new user needs them; a tag is the first segment of a path. */
export const tags: Record<string, { title: string; description: string }> = {
  auth: { title: "Auth", description: "The present caller, API keys, and the credentials of your providers." },
  clients: { title: "Clients", description: "The client you act for, and its members." },
  invitations: { title: "Invitations", description: "Accept an invitation to a client." },
  agents: {
    title: "Agents",
    description: "Voice agents: prompt, voice, tools and knowledge; every change creates a version.",
  },
  voices: { title: "Voices", description: "Your own voices: clones from samples, and voices of other providers." },
  kb: { title: "Knowledge bases", description: "Knowledge bases: files and pages that an agent can search." },
  tools: { title: "Tools", description: "HTTP requests to your systems that an agent can make during a call." },
  calls: { title: "Calls", description: "Outbound and inbound calls, their transcripts and recordings." },
  webhooks: { title: "Webhooks", description: "Signed events to your endpoints, with every delivery attempt." },
  events: { title: "Events", description: "The events of your resources, in order." },
  telephony: { title: "Telephony", description: "Connect calls to the phone network." },
  billing: { title: "Billing", description: "Credits: the balance, the ledger and the prices." },
  admin: { title: "Admin", description: "Only for operators of the installation." },
};

const meanings: Record<string, string> = {
  id: "The id of the resource.",
  limit: "The maximum number of items.",
  cursor: "`meta.nextCursor` of the previous page; omit it for the first page.",
};

/** The description of a parameter without one: createdAfter -> "Created after." */
export function meaningOf(name: string): string {
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return meanings[name] ?? `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}
