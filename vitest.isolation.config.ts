import { configDefaults, defineConfig } from "vitest/config";
import fast, { isolationTests } from "./vitest.config.ts";

/**
 * A client that uses the service beside one that floods it. It does not pass on two cores yet: the calls of the first client
 * are served, but slowly (docs/benchmarks.md). It is apart, so that it can fail without hiding another failure.
 */
export default defineConfig({
  test: { ...fast.test, include: isolationTests, exclude: configDefaults.exclude, maxWorkers: 1 },
});
