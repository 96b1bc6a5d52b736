import { admin } from "./admin/index.ts";
import { agents } from "./agents/index.ts";
import { apiKeys } from "./api-keys/index.ts";
import { auth } from "./auth/index.ts";
import { billing } from "./billing/index.ts";
import { calls } from "./calls/index.ts";
import { clients } from "./clients/index.ts";
import { credentials } from "./credentials/index.ts";
import { events } from "./events/index.ts";
import { internal } from "./internal/index.ts";
import { knowledge } from "./knowledge/index.ts";
import { telephony } from "./telephony/index.ts";
import { tools } from "./tools/index.ts";
import { router } from "./trpc.ts";
import { voices } from "./voices/index.ts";
import { webhooks } from "./webhooks/index.ts";

/** What the world may call: at /trpc, and at /api/v1. */
export const appRouter = router({
  admin,
  agents,
  apiKeys,
  auth,
  billing,
  calls,
  clients,
  credentials,
  events,
  knowledge,
  telephony,
  tools,
  voices,
  webhooks,
});
export type AppRouter = typeof appRouter;

/** For the installation's own services: at /internal alone. It is no part of /trpc, of the document or of the typed client. */
export const internalRouter = router({ internal });
