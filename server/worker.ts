import { run } from "./entry.ts";

/** The jobs. */
await run({ http: false, workers: true });
