// WEBHOOK_SECRET=whsec_… PORT=5000 node receiver.ts
import { createServer, type IncomingMessage } from "node:http";
import { verifyWebhook, type WebhookEvent, WebhookRefused } from "patchbay/client";

/** One key, or several separated by spaces during a rotation. */
const secret = process.env.WEBHOOK_SECRET?.split(" ") ?? [];
const mostBytes = 1_048_576;

/** For the example only. In production, store the event in a table with a unique id, and work from there. */
const seen = new Set<string>();

createServer(async (request, response) => {
  const answer = (status: number) => response.writeHead(status).end();
  try {
    const payload = await bodyOf(request);
    if (!payload) return answer(413);
    const event = await verifyWebhook({ payload, headers: request.headers, secret });
    const id = String(request.headers["webhook-id"]);
    const isNew = !seen.has(id);
    seen.add(id);
    answer(204); // slow work comes after the response
    if (isNew) handle(id, event);
  } catch (error) {
    console.error(error);
    // 400: not from Patchbay. 500: a mistake in this code, and Patchbay retries.
    if (!response.headersSent) answer(error instanceof WebhookRefused ? 400 : 500);
  }
}).listen(Number(process.env.PORT ?? 5000), "127.0.0.1");

function handle(id: string, event: WebhookEvent) {
  console.log(id, event.type);
}

/** The raw bytes, or null if there are too many. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > mostBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
