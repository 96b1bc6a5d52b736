import { run } from "./entry.ts";

/** Both doors, and what providers call. */
await run({ http: true, workers: false });
