import { errorCodes } from "../../routers/core/errors.ts";

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

const headlines: Record<number, string> = {
  400: "The request is malformed",
  401: "Nobody is known by this token",
  402: "The balance is too low",
  403: "You may not do this",
  404: "It is not there",
  405: "The method is wrong",
  409: "Not now",
  413: "The body is too large",
  415: "The body has the wrong type",
  422: "Understood, and refused",
  429: "Too fast",
  500: "Our fault",
  503: "Not available just now",
};

const example = JSON.stringify(
  {
    error: {
      code: "input_invalid",
      message: "limit: Too big: expected number to be <=100",
      requestId: "req_01k9zq3v5ae8t9h2m7c4x6b0nd",
      docUrl: "https://api.example.com/docs/errors#input_invalid",
      details: [{ path: "limit", message: "Too big: expected number to be <=100" }],
    },
  },
  null,
  2,
);

/** The page that every error's `docUrl` leads to: one anchor per code, from the same table that the answers come from. */
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
<p>Every failure has the same form. Programs go by <code>code</code>, which stays the same; <code>message</code> is for people
and says what to do; <code>details</code> names each field that was refused. Quote <code>requestId</code> when you ask us about one.</p>
<pre><code>${escaped(example)}</code></pre>
<p>A 429 or 503 with <code>Retry-After</code> may be repeated after that many seconds. Send an <code>Idempotency-Key</code> with
every POST, PUT and PATCH, and repeating is always safe. Back to the <a href="../docs">API reference</a>.</p>
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
  const title = headlines[status];
  const entries = codes.map(([code, meaning]) => entry(code, meaning)).join("\n");
  return `<h2>${status}${title ? ` - ${title}` : ""}</h2>\n${entries}`;
}

const entry = (code: string, meaning: string) =>
  `<h3 id="${code}"><a href="#${code}"><code>${code}</code></a></h3>\n<p>${prose(meaning)}</p>`;

/** The table's sentences mark code with backticks. */
const prose = (text: string) => escaped(text).replace(/`([^`]+)`/g, "<code>$1</code>");

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
