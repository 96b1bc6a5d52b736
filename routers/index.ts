import { agents } from "./agents/index.ts";
import { apiKeys } from "./api-keys/index.ts";
import { auth } from "./auth/index.ts";
import { billing } from "./billing/index.ts";
import { calls } from "./calls/index.ts";
import { events } from "./events/index.ts";
import { router } from "./trpc.ts";
import { webhooks } from "./webhooks/index.ts";

export const appRouter = router({ agents, apiKeys, auth, billing, calls, events, webhooks });
export type AppRouter = typeof appRouter;
