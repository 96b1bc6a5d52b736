import { run } from "./entry.ts";

/** API and jobs in one process: enough for a small installation. */
await run({ http: true, workers: true });
