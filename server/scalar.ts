import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const built = fileURLToPath(new URL("../vendor/scalar.js", import.meta.url));
const installed = fileURLToPath(
  new URL("../node_modules/@scalar/api-reference/dist/browser/standalone.js", import.meta.url),
);

/** The reference page's script: beside the build, or from the development dependency. */
export const scalarFile = existsSync(built) ? built : installed;
