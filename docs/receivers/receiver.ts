// WEBHOOK_SECRET=whsec_… PORT=5000 node receiver.ts
import { createServer, type IncomingMessage } from "node:http";
import { verifyWebhook, type WebhookEvent, WebhookRefused } from "patchbay/client";

/** One key, or several with a space between while one takes the place of another. */
const secret = process.env.WEBHOOK_SECRET?.split(" ") ?? [];
const mostBytes = 1_048_576;

/** For the example. Yours is a table with the event under its unique id, from which the work is done. */
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
    answer(204); // what takes long comes after
    if (isNew) handle(id, event);
  } catch (error) {
    console.error(error);
    // 400: not from Patchbay. 500: a mistake of our own, and Patchbay comes again.
    if (!response.headersSent) answer(error instanceof WebhookRefused ? 400 : 500);
  }
}).listen(Number(process.env.PORT ?? 5000), "127.0.0.1");

function handle(id: string, event: WebhookEvent) {
  console.log(id, event.type);
}

/** The bytes as they came, or null when there are too many. */
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
