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
 * Stores the secret before the provider receives it, so that its first event can be verified. Every step may run again:
 * the URL contains the account id, so an existing webhook is found by it.
 */
export const connect: Task<"accounts.connect"> = {
  async run({ accountId }, ctx) {
    const webhook = await secretOf(ctx, accountId);
    if (!webhook) return; // the account was removed meanwhile
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
  if (ctx.clientId === null || url === null)
    throw new Error("This installation has no public address. Set PUBLIC_URL.");
  const cipher = await ctx.providers.vault.keys(ctx.clientId, "webhook_secret");
  const fresh = cipher.seal(randomBytes(32).toString("hex"), accountId);
  const sealed = await ctx.asClient((tx) => keepWebhookSecret(tx, accountId, fresh));
  return sealed && { url, secret: cipher.open(sealed, accountId).toString() };
}

/**
 * Removes the webhook while the API key still works, then deletes both. It waits until the account's calls are billed and
 * read and everything deleted here is deleted at the provider. After the last attempt it deletes them in any case.
 */
export const disconnect: Task<"accounts.disconnect"> = {
  async run({ accountId }, ctx) {
    const account = await ctx.asClient((tx) => getAccount(tx, accountId), { mode: "read" });
    if (account?.status !== "retired") return;
    if (account.apiKey && (await ctx.asClient((tx) => isNeeded(tx, accountId), { mode: "read" })))
      throw new Error("The account is still needed for a bill, a transcript, a recording or a removal.");
    try {
      if (account.webhookSecret) await removeWebhook(ctx, accountId, account.providerWebhookId);
    } catch (error) {
      if (!isRefusal(error)) throw error; // refused: the key no longer works, so nothing can be removed
    }
    await forget(ctx, accountId);
  },

  /** The webhook stays at the provider. Its events are refused here, because its secret is deleted. */
  onExhausted: ({ accountId }, ctx) => forget(ctx, accountId),
};

/** Deletes the key first: after that no more events of the account arrive, and its open calls can be closed. */
async function forget(ctx: JobContext, accountId: string) {
  await ctx.asClient((tx) => forgetAccount(tx, accountId));
  const unheard = await ctx.asClient((tx) => listCallsToCheck(tx, accountId), { mode: "read" });
  for (const id of unheard)
    await ctx.asClient(async (tx) => closeUnbillable(tx, await lockCall(tx, id), ctx.requestId));
}

/** Finds a webhook whose creation was never confirmed by its URL. */
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

/** Two concurrent runs could send an older key last. So each run compares after sending, and repeats if the key changed. */
export const publish: Task<"credentials.publish"> = {
  async run({ provider }, ctx) {
    if (!isVoiceVendor(provider) || ctx.clientId === null) throw new Error(`${provider} is not a TTS provider.`);
    const cipher = await ctx.providers.vault.keys(ctx.clientId, "provider_credential");
    for (;;) {
      const { account, row } = await readBoth(ctx, provider);
      if (!account) return; // a client's key never goes into the shared account
      const key = row ? ttsSecret(openRow(cipher, row)) : null;
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
