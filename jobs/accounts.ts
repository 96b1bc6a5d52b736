import { randomBytes } from "node:crypto";
import { closeUnbillable, listCallsToCheck } from "../routers/calls/lifecycle/close-unbillable.ts";
import { lockCall } from "../routers/calls/service.ts";
import { forgetAccount, getAccount, keepWebhookSecret, recordWebhook } from "../routers/credentials/accounts.ts";
import { ttsSecret } from "../routers/credentials/kinds.ts";
import { activeAccount, findCredential, markCredential, openRow } from "../routers/credentials/service.ts";
import { isNeeded } from "../routers/credentials/uses.ts";
import { ProviderError } from "../routers/ports/provider-error.ts";
import { isVoiceVendor, voiceVendors } from "../routers/ports/voice-vendors.ts";
import type { JobContext, Task } from "./runtime/task.ts";

const deadline = () => ({ signal: AbortSignal.timeout(20_000) });

/**
 * The secret is kept before the provider hears it: what it signs can be verified from its first event on. Every step may
 * run again: the address is the account's own, so the webhook that is there is found.
 */
export const connect: Task<"accounts.connect"> = {
  async run({ accountId }, ctx) {
    const webhook = await secretOf(ctx, accountId);
    if (!webhook) return; // given up meanwhile
    ctx.fence.check();
    try {
      const made = await ctx.providers.ultravox.ensureWebhook(accountId, webhook, deadline());
      await ctx.asClient((tx) => recordWebhook(tx, accountId, made.providerWebhookId));
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await markRefused(ctx, "ultravox", error.message);
    }
  },
};

async function secretOf(ctx: JobContext, accountId: string): Promise<{ url: string; secret: string } | null> {
  const url = ctx.providers.ultravox.webhookUrl(accountId);
  if (ctx.clientId === null || url === null) throw new Error("This installation has no public address.");
  const ring = await ctx.providers.vault.keys(ctx.clientId, "webhook_secret");
  const fresh = ring.seal(randomBytes(32).toString("hex"), accountId);
  const sealed = await ctx.asClient((tx) => keepWebhookSecret(tx, accountId, fresh));
  return sealed && { url, secret: ring.open(sealed, accountId).toString() };
}

/**
 * Removes the webhook as long as the key still opens, then forgets both. Not before the account's calls are billed and
 * read, and what was deleted here is deleted there; but at the latest when this gives up.
 */
export const disconnect: Task<"accounts.disconnect"> = {
  async run({ accountId }, ctx) {
    const account = await ctx.asClient((tx) => getAccount(tx, accountId), { mode: "read" });
    if (account?.status !== "retired") return;
    if (account.apiKey && (await ctx.asClient((tx) => isNeeded(tx, accountId), { mode: "read" })))
      throw new Error("The account is needed still: for a bill, a transcript or a recording, or to remove something.");
    try {
      if (account.webhookSecret) await removeWebhook(ctx, accountId, account.providerWebhookId);
    } catch (error) {
      if (!isRefusal(error)) throw error; // refused: the key opens no more, and with it all is said
    }
    await forget(ctx, accountId);
  },

  /** What cannot be removed there stays there, and is refused here: nobody knows its secret any more. */
  onExhausted: ({ accountId }, ctx) => forget(ctx, accountId),
};

/** The key first: from then on nobody hears of the account's calls, and what is known of them is all. */
async function forget(ctx: JobContext, accountId: string) {
  await ctx.asClient((tx) => forgetAccount(tx, accountId));
  const unheard = await ctx.asClient((tx) => listCallsToCheck(tx, accountId), { mode: "read" });
  for (const id of unheard)
    await ctx.asClient(async (tx) => closeUnbillable(tx, await lockCall(tx, id), ctx.requestId));
}

/** One that may have been made without our hearing of it is found by its address. */
async function removeWebhook(ctx: JobContext, accountId: string, known: string | null) {
  const { ultravox } = ctx.providers;
  const webhook = known ? null : await secretOfRetired(ctx, accountId);
  const id = known ?? (webhook && (await ultravox.ensureWebhook(accountId, webhook, deadline())).providerWebhookId);
  ctx.fence.check();
  if (id) await ultravox.removeWebhook(accountId, id, deadline());
}

async function secretOfRetired(ctx: JobContext, accountId: string) {
  const url = ctx.providers.ultravox.webhookUrl(accountId);
  return url === null ? null : { url, secret: randomBytes(32).toString("hex") };
}

/** Two that run at once could bring an older key last: whoever finds it changed when he is done does it again. */
export const publish: Task<"credentials.publish"> = {
  async run({ provider }, ctx) {
    if (!isVoiceVendor(provider) || ctx.clientId === null) throw new Error(`${provider} is no company of voices.`);
    const ring = await ctx.providers.vault.keys(ctx.clientId, "provider_credential");
    for (;;) {
      const { account, row } = await readBoth(ctx, provider);
      if (!account) return; // into the shared account no client's key ever goes
      const key = row ? ttsSecret(openRow(ring, row)) : null;
      ctx.fence.check();
      try {
        await ctx.providers.ultravox.setTtsKeys(account.id, { [voiceVendors[provider].upstreamName]: key }, deadline());
      } catch (error) {
        if (!isRefusal(error)) throw error;
        return markRefused(ctx, provider, error.message);
      }
      const after = await readBoth(ctx, provider);
      if (isSame(row?.sealed, after.row?.sealed) && account.id === after.account?.id) return;
    }
  },
};

const readBoth = (ctx: JobContext, provider: string) =>
  ctx.asClient(async (tx) => ({ account: await activeAccount(tx), row: await findCredential(tx, provider) }), {
    mode: "read",
  });

const isSame = (a: Buffer | undefined, b: Buffer | undefined) => (a && b ? a.equals(b) : a === b);

async function markRefused(ctx: JobContext, provider: string, reason: string) {
  await ctx.asClient(async (tx) => {
    const row = await findCredential(tx, provider);
    if (row) await markCredential(tx, row, { status: "invalid", statusReason: reason });
  });
}

const isRefusal = (error: unknown): error is ProviderError =>
  error instanceof ProviderError && error.kind === "refused";
