import { expect } from "vitest";
import { newId } from "../../db/ids.ts";
import { type SeededClient, seedClient } from "../../dev/seed.ts";
import type { Scope } from "../../routers/core/scopes.ts";
import type { TestApp, TestResponse } from "./app.ts";

export type Made = { id: string; key: string };

type Refs = { id: string }[];
type Left = Record<"revokedApiKeys" | "keptApiKeys" | "disabledWebhooks" | "keptWebhooks", Refs> & {
  withdrawnInvitations: number;
};
type Choices = { keepApiKeys?: true; disableWebhooks?: true };
const queryOf = (choices: Choices) =>
  Object.keys(choices)
    .map((name) => `${name}=true`)
    .join("&");

export const idsOf = (refs: { id: string }[]) => refs.map(({ id }) => id).toSorted();
export const answerOf = ({ status, body }: TestResponse): Left => {
  expect(status).toBe(200);
  return body.data ?? body.result.data;
};

/** Members who leave, and what they create before. */
export function leavers(h: TestApp) {
  let people = 0;

  /** A new client with a second member who has this role and a user token. */
  async function clientWith(role: string) {
    const owner = await seedClient(h.deps, { name: "Leaving", subject: newId("user"), credits: 1 });
    return { owner: { ...owner, token: await h.token(owner) }, member: await join(owner, role) };
  }

  async function join(owner: SeededClient, role: string, subject = newId("user")) {
    const email = `leaver${++people}@example.com`;
    const invited = await h.post("/clients/current/invitations", { email, role }, { key: await h.token(owner) });
    const stranger = await h.identity.token({ sub: subject, clients: [] });
    const joined = await h.post(`/invitations/${invited.body.data.token}/accept`, {}, { key: stranger });
    const { userId } = joined.body.data;
    const [row] = await h.owner`select id from memberships where client_id = ${owner.clientId} and user_id = ${userId}`;
    const token = await h.identity.token({ sub: subject, clients: [owner.clientId] });
    return { id: row!.id as string, userId: userId as string, subject, email, token, clientId: owner.clientId };
  }

  async function makeKey(by: string, scopes: Scope[], name = "Made"): Promise<Made> {
    const made = await h.post("/auth/api-keys", { name, scopes }, { key: by });
    expect(made).toMatchObject({ status: 201 });
    return made.body.data;
  }

  type Who = Awaited<ReturnType<typeof clientWith>>;
  /** The ways to remove a member: by the client or an operator, on each transport. */
  const ways: Record<string, (who: Who, choices?: Choices) => Promise<TestResponse>> = {
    "a member over REST": ({ owner, member }, choices = {}) =>
      h.remove(`/clients/current/members/${member.id}?${queryOf(choices)}`, { key: owner.token }),
    "a member over tRPC": ({ owner, member }, choices) =>
      h.mutate("clients.members.remove", { id: member.id, ...choices }, { key: owner.token }),
    "an operator over REST": async ({ owner, member }, choices = {}) =>
      h.remove(`/admin/clients/${owner.clientId}/members/${member.id}?${queryOf(choices)}`, {
        key: await h.operator(),
      }),
  };

  return { clientWith, join, makeKey, ways };
}
