import { run } from "./entry.ts";

/** REST, tRPC and provider webhooks, without jobs. */
await run({ http: true, workers: false });
