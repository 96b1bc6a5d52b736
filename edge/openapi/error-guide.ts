import { errorCodes } from "../../routers/core/errors.ts";
import { titleOfStatus } from "./status-titles.ts";

const style = `
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem; color: #1a1a1a }
  code { font: 0.9em ui-monospace, monospace; background: #f2f2f2; padding: 0.1em 0.35em; border-radius: 4px }
  pre { background: #f2f2f2; padding: 1rem; border-radius: 6px; overflow-x: auto } pre code { padding: 0 }
  h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd } h3 { margin: 1.5rem 0 0 }
  h3 a { color: inherit; text-decoration: none } h3 a:hover { text-decoration: underline } h3 + p { margin-top: 0.25rem }
  :target { background: #fff6cf } a { color: #0a58ca }
  @media (prefers-color-scheme: dark) {
    body { background: #141414; color: #e6e6e6 } code, pre { background: #262626 } h2 { border-color: #333 }
    :target { background: #4a4115 } a { color: #7db3ff }
  }`;

const example = JSON.stringify(
  {
    error: {
      code: "input_invalid",
      message: "limit: Must be at most 100.",
      requestId: "req_01k9zq3v5ae8t9h2m7c4x6b0nd",
      docUrl: "/docs/errors#input_invalid",
      details: [{ path: "limit", message: "Must be at most 100." }],
    },
  },
  null,
  2,
);

/** The page of every error's `docUrl`: one anchor per code, generated from the table of error codes. */
export function errorGuide(): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Errors - Patchbay</title>
<style>${style}</style>
</head>
<body>
<h1>Errors</h1>
<p>Every failure has the same form. <code>code</code> is for programs and never changes; <code>message</code> is for people
and states what to do; <code>details</code> names each refused field. Quote <code>requestId</code> when you contact support.</p>
<pre><code>${escaped(example)}</code></pre>
<p>A 429 or 503 with <code>Retry-After</code> may be retried after that many seconds. Send an <code>Idempotency-Key</code> with
every POST, PUT and PATCH: then every retry is safe. Back to the <a href="../docs">API reference</a>.</p>
${[...byStatus()].map(([status, codes]) => section(status, codes)).join("\n")}
</body>
</html>
`;
}

function byStatus(): Map<number, [string, string][]> {
  const groups = new Map<number, [string, string][]>();
  for (const [code, { status, meaning }] of Object.entries(errorCodes)) {
    groups.set(status, [...(groups.get(status) ?? []), [code, meaning]]);
  }
  return new Map([...groups].sort(([a], [b]) => a - b));
}

function section(status: number, codes: [string, string][]): string {
  const title = titleOfStatus(status);
  const entries = codes.map(([code, meaning]) => entry(code, meaning)).join("\n");
  return `<h2>${status}${title ? ` - ${title}` : ""}</h2>\n${entries}`;
}

const entry = (code: string, meaning: string) =>
  `<h3 id="${code}"><a href="#${code}"><code>${code}</code></a></h3>\n<p>${prose(meaning)}</p>`;

/** Backticks in a meaning mark code. */
const prose = (text: string) => escaped(text).replace(/`([^`]+)`/g, "<code>$1</code>");

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
