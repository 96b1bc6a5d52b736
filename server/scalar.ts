import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const built = fileURLToPath(new URL("../vendor/scalar.js", import.meta.url));
const installed = fileURLToPath(
  new URL("../node_modules/@scalar/api-reference/dist/browser/standalone.js", import.meta.url),
);

/** The script of the API reference: in the build, or from the development dependency. */
export const scalarFile = existsSync(built) ? built : installed;
