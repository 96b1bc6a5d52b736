import { eq } from "drizzle-orm";
import { type Tx, withCommit } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { knowledgeBases } from "../../db/schema/knowledge.ts";
import type { ProviderCommand } from "../core/provider-command.ts";
import { accountFor } from "../credentials/accounts.ts";
import type { ProviderCorpus } from "../ports/ultravox.ts";
import type { CreateKnowledgeBase, KnowledgeBase } from "./schema.ts";
import { changeBase, emitKnowledgeEvent, getKnowledgeBase, toKnowledgeBase } from "./service.ts";

type CorpusRequest = { id: string; description: string | null };

/** Creates a knowledge base here and its corpus at the provider, where its name is our id. */
export const createKnowledgeBase: ProviderCommand<CreateKnowledgeBase, CorpusRequest, ProviderCorpus, KnowledgeBase> = {
  kind: "knowledge.create",
  status: 201,
  busyCode: "knowledge_base_busy",

  async prepare(tx, input) {
    const id = newId("knowledgeBase");
    const providerAccountId = await accountFor(tx);
    const row = { id, ...input, status: "provisioning", providerAccountId } as const;
    const writing = tx.insert(knowledgeBases).values(row).execute();
    return { subjectId: id, providerAccountId, request: { id, description: input.description }, writing };
  },

  execute: ({ ultravox }, accountId, request, deadline) => ultravox.createCorpus(accountId, request, deadline),

  async onAccepted(tx, subjectId, { providerCorpusId }) {
    const base = await changeBase(tx, subjectId, { status: "empty", statusReason: null, providerCorpusId });
    withCommit(tx, () => emitKnowledgeEvent(tx, "knowledge_base.created", base));
    return toKnowledgeBase(base);
  },

  async onFailed(tx, subjectId, { message }) {
    await changeBase(tx, subjectId, { status: "failed", statusReason: message });
  },

  onUnknown: async () => {}, // the base stays `provisioning` until the recovery job settles it
  read: getKnowledgeBase,

  async rebuildRequest(tx, subjectId) {
    const { id, description } = await rowOf(tx, subjectId);
    return { id, description };
  },

  lookup: ({ ultravox }, accountId, request, _since, deadline) => ultravox.findCorpora(accountId, request.id, deadline),

  /** A second corpus would only use up the account's allowance. */
  async onOrphan(tx, subjectId, accountId, { providerCorpusId: providerId }) {
    const base = await rowOf(tx, subjectId);
    if (base.providerCorpusId === providerId) return;
    await enqueue(tx, "upstream.remove", { kind: "corpus", accountId, providerId });
  },
};

async function rowOf(tx: Tx, id: string) {
  const [base] = await tx.select().from(knowledgeBases).where(eq(knowledgeBases.id, id));
  if (!base) throw new Error(`No knowledge base ${id}.`);
  return base;
}
