import { clientFactor, limits } from "../../routers/core/limits.ts";
import { scopes } from "../../routers/core/scopes.ts";

const limitLines = Object.entries(limits)
  .map(([name, { requests, windowSeconds }]) => `- \`${name}\`: ${requests} requests in ${windowSeconds} seconds`)
  .join("\n");

/** What a reader must know before the first request. */
export const introduction = `Agents that talk: voices, knowledge, tools, phone calls, webhooks and prepaid credits.

## Authentication
Every request carries \`Authorization: Bearer <token>\`: an API key (\`pb_live_…\`, \`pb_test_…\`) or a user's access token.
An API key belongs to one client. A user of several clients names one with \`X-Client-Id\`.
Each operation names the scope that it asks for; a key holds a list of scopes, a role is a set of them.
What stands under \`/admin\` opens to the operators of the installation alone, by their own tokens.

## Requests and answers
Bodies are JSON objects in UTF-8 and are read strictly: an unknown field, or a number sent as a string, is refused by name.
A success is \`{ "data", "meta" }\`. Timestamps are ISO 8601 in UTC; durations are in seconds; money is in whole micros.
Every answer carries \`X-Request-Id\`; quote it when you ask about a request.

## Idempotency
Send \`Idempotency-Key\` (or \`X-Idempotency-Key\`) with every POST, PUT and PATCH, and repeat the request as often as you like
for 24 hours: the work is done once, and the first answer comes back with \`Idempotency-Replayed: true\`.
The same key with another request is refused with 422; while the first is still running the answer is 409.

## Pagination
Lists are newest first. \`limit\` is 20 unless told otherwise, at most 100. Pass \`meta.nextCursor\` as \`cursor\` for the next page,
with the same filters, until \`meta.hasMore\` is false. Two lists are short and come whole, without either: providers and event types.

## Errors
A failure is \`{ "error": { "code", "message", "requestId", "docUrl", "details" } }\`. \`code\` is for programs and stays the same;
\`message\` is for people and says what to do; \`details\` names each field that was refused. See the [error guide](/docs/errors).

## Rate limits
Requests are counted for each key or person, by class of operation; all keys and members of a client together may make
${clientFactor} times as many. The answer to one that was counted says in \`RateLimit\` and
\`RateLimit-Policy\` what is left, failures too; one that is refused before that (401, most of 403, a body that cannot be read) is
not counted and says nothing of it. A 429 carries \`Retry-After\` in seconds. The classes:

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
      "A user's access token (RS256). The role in the client decides which scopes it has; a `scope` or `permissions` claim limits it to those it names.",
  },
} as const;

/** The tags in the order in which a newcomer meets them; a tag is the first word of a path. */
export const tags: Record<string, { title: string; description: string }> = {
  auth: { title: "Auth", description: "Who is calling, API keys, and the credentials of your providers." },
  clients: { title: "Clients", description: "The client you act for, and its members." },
  invitations: { title: "Invitations", description: "Joining a client that invited you." },
  agents: { title: "Agents", description: "Voice agents: prompt, voice, tools and knowledge, every change a version." },
  voices: { title: "Voices", description: "Voices of your own: clones from samples, and other companies' voices." },
  kb: { title: "Knowledge", description: "Knowledge bases: files and pages that an agent can look things up in." },
  tools: { title: "Tools", description: "What an agent can do during a call: HTTP requests to your systems." },
  calls: { title: "Calls", description: "Calls out and in, their transcripts and recordings." },
  webhooks: { title: "Webhooks", description: "Events sent to your endpoints, signed, with every attempt kept." },
  events: { title: "Events", description: "What happened, in the order in which it became true." },
  telephony: { title: "Telephony", description: "How calls reach the phone network." },
  billing: { title: "Billing", description: "Credits: the balance, the ledger and the prices." },
  admin: { title: "Admin", description: "The platform's operators only." },
};

const meanings: Record<string, string> = {
  id: "The id of the one that is meant.",
  limit: "How many at most.",
  cursor: "`meta.nextCursor` of the page before; without it the list begins anew.",
};

/** What a parameter means whose schema does not say it: createdAfter -> "Created after." */
export function meaningOf(name: string): string {
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return meanings[name] ?? `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}
