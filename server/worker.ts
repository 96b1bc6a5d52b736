import { run } from "./entry.ts";

/** Jobs only. */
await run({ http: false, workers: true });
