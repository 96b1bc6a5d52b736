import type { JobPayload } from "../db/queue.ts";
import type { Deadline } from "../routers/ports/provider-error.ts";
import type { Ultravox } from "../routers/ports/ultravox.ts";
import type { Task } from "./runtime/task.ts";

type Removal = JobPayload<"upstream.remove">;
type Remove = (ultravox: Ultravox, removal: Removal, deadline: Deadline) => Promise<void>;

const removals: Record<Removal["kind"], Remove> = {
  agent: (ultravox, { accountId, providerId }, deadline) => ultravox.deleteAgent(accountId, providerId, deadline),
  voice: (ultravox, { accountId, providerId }, deadline) => ultravox.deleteVoice(accountId, providerId, deadline),
  tool: (ultravox, { accountId, providerId }, deadline) => ultravox.deleteTool(accountId, providerId, deadline),
  corpus: (ultravox, { accountId, providerId }, deadline) => ultravox.deleteCorpus(accountId, providerId, deadline),
  source: (ultravox, { accountId, providerId, parentId = "" }, deadline) =>
    ultravox.deleteSource(accountId, parentId, providerId, deadline),
  registration: (ultravox, { accountId, providerId }, deadline) =>
    ultravox.deleteRegistration(accountId, providerId, deadline),
};

/** Removes at the provider what is deleted here already. */
export const remove: Task<"upstream.remove"> = {
  run: (removal, ctx) =>
    removals[removal.kind](ctx.providers.ultravox, removal, { signal: AbortSignal.timeout(20_000) }),
};
