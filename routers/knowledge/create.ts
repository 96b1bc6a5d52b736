import { eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { knowledgeBases } from "../../db/schema/knowledge.ts";
import { accountFor } from "../credentials/accounts.ts";
import type { Outbound } from "../intents/outbound.ts";
import type { ProviderCorpus } from "../providers/ultravox.ts";
import type { CreateKnowledgeBase, KnowledgeBase } from "./schema.ts";
import { changeBase, getKnowledgeBase, say } from "./service.ts";

type Asked = { id: string; description: string | null };

/** Makes a knowledge base here and its corpus at the provider, where its name is our id. */
export const createKnowledgeBase: Outbound<CreateKnowledgeBase, Asked, ProviderCorpus, KnowledgeBase> = {
  kind: "knowledge.create",
  status: 201,
  busy: "knowledge_base_busy",

  async intend(tx, input) {
    const id = newId("knowledgeBase");
    const providerAccountId = await accountFor(tx);
    await tx.insert(knowledgeBases).values({ id, ...input, state: "provisioning", providerAccountId });
    return { subjectId: id, providerAccountId, asked: { id, description: input.description } };
  },

  ask: ({ ultravox }, accountId, asked, deadline) => ultravox.createCorpus(accountId, asked, deadline),

  async accepted(tx, subjectId, { providerCorpusId }) {
    await say(
      tx,
      "knowledge_base.created",
      await changeBase(tx, subjectId, { state: "empty", stateReason: null, providerCorpusId }),
    );
  },

  async failed(tx, subjectId, { message }) {
    await changeBase(tx, subjectId, { state: "failed", stateReason: message });
  },

  lost: async () => {}, // it stays `provisioning` until the safety job knows
  read: getKnowledgeBase,

  async recall(tx, subjectId) {
    const { id, description } = await rowOf(tx, subjectId);
    return { id, description };
  },

  find: ({ ultravox }, accountId, asked, _since, deadline) => ultravox.findCorpora(accountId, asked.id, deadline),

  /** One that is not the one that was taken only uses up the account's allowance. */
  async stray(tx, subjectId, accountId, { providerCorpusId: providerId }) {
    const taken = await rowOf(tx, subjectId);
    if (taken.providerCorpusId === providerId) return;
    await enqueue(tx, "upstream.remove", { kind: "corpus", accountId, providerId });
  },
};

async function rowOf(tx: Tx, id: string) {
  const [base] = await tx.select().from(knowledgeBases).where(eq(knowledgeBases.id, id));
  if (!base) throw new Error(`No knowledge base ${id}.`);
  return base;
}
