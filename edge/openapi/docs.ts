import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { type Response, Router } from "express";
import { errorGuide } from "./error-guide.ts";

/** Everything in the reference page that would contact its vendor's servers is off. */
const configuration = {
  url: "./openapi.json",
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  agent: { disabled: true },
  mcp: { disabled: true },
  documentDownloadType: "json",
  authentication: { preferredSecurityScheme: "apiKey" },
};

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Patchbay API reference</title>
</head>
<body>
<noscript>The reference needs JavaScript. The same document as data: <a href="./openapi.json">openapi.json</a>.</noscript>
<script id="api-reference" type="application/json" data-configuration='${JSON.stringify(configuration)}'></script>
<script src="./docs/scalar.js"></script>
</body>
</html>
`;

/** The page loads only from our origin. The reference has inline styles, and icons in data URLs. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "worker-src 'self' blob:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** /docs, its script, and /docs/errors. `scalarFile` is the reference's vendored browser bundle. */
export function docsRouter({ scalarFile }: { scalarFile: string }): Router {
  const guide = errorGuide();
  let bundle: Promise<Bundle> | undefined;
  const router = Router({ strict: true });
  router.get("/docs", (_, res) => sendPage(res, page));
  // With the slash, the page's relative links would lead to /docs/docs.
  router.get("/docs/", (_, res) => res.redirect(308, "../docs"));
  router.get("/docs/errors", (_, res) => sendPage(res, guide));
  router.get("/docs/scalar.js", async (req, res) => {
    bundle ??= loadBundle(scalarFile);
    const { plain, zipped, tag } = await bundle.catch((error) => {
      bundle = undefined;
      throw error;
    });
    res.set({
      ETag: tag,
      Vary: "Accept-Encoding",
      "Cache-Control": "public, max-age=86400",
      "X-Content-Type-Options": "nosniff",
    });
    if (req.fresh) return res.status(304).end();
    const wantsZip = req.acceptsEncodings("gzip") === "gzip";
    if (wantsZip) res.set("Content-Encoding", "gzip");
    res.type("text/javascript; charset=utf-8").send(wantsZip ? zipped : plain);
  });
  return router;
}

type Bundle = { plain: Buffer; zipped: Buffer; tag: string };

/** Read and compressed at the first request, then cached: four megabytes become one. */
async function loadBundle(file: string): Promise<Bundle> {
  const plain = await readFile(file);
  const zipped = await promisify(gzip)(plain);
  return { plain, zipped, tag: `W/"${createHash("sha256").update(plain).digest("base64url").slice(0, 22)}"` };
}

function sendPage(res: Response, html: string): void {
  res.set({
    "Content-Security-Policy": policy,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=300",
  });
  res.type("text/html; charset=utf-8").send(html);
}
