/**
 * Node 24 reads a package's package.json again for each module that it loads from it. drizzle-orm has 300 modules and a
 * package.json of 179 kB: importing it takes 0.8 s and 250 MB instead of 0.1 s and 60 MB. This hook resolves its inner
 * imports without that file. For tests and tools that run from the sources; a build is a bundle and needs none of it.
 */
import { registerHooks } from "node:module";

const heavy = /\/node_modules\/drizzle-orm\//;

registerHooks({
  resolve(specifier, context, nextResolve) {
    const { parentURL } = context;
    if (parentURL && heavy.test(parentURL) && specifier.startsWith(".")) {
      return { url: new URL(specifier, parentURL).href, format: "module", shortCircuit: true };
    }
    const resolved = nextResolve(specifier, context);
    return heavy.test(resolved.url) ? { ...resolved, format: "module" } : resolved;
  },
});
