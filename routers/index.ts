import { admin } from "./admin/router.ts";
import { agents } from "./agents/router.ts";
import { apiKeys } from "./api-keys/router.ts";
import { auth } from "./auth/router.ts";
import { billing } from "./billing/router.ts";
import { calls } from "./calls/router.ts";
import { clients } from "./clients/router.ts";
import { router } from "./core/procedures.ts";
import { credentials } from "./credentials/router.ts";
import { events } from "./events/router.ts";
import { internal } from "./internal/router.ts";
import { knowledge } from "./knowledge/router.ts";
import { telephony } from "./telephony/router.ts";
import { tools } from "./tools/router.ts";
import { voices } from "./voices/router.ts";
import { webhooks } from "./webhooks/router.ts";

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
