import { run } from "./entry.ts";

/** HTTP and jobs in one process: enough for a small installation. */
await run({ http: true, workers: true });
