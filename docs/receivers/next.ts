// app/hooks/route.ts of a Next.js application. The same function serves Hono, Deno, Bun and Cloudflare Workers.
import { verifyWebhook, WebhookRefused } from "patchbay/client";

const secret = process.env.WEBHOOK_SECRET?.split(" ") ?? [];
const seen = new Set<string>(); // for the example only: in production, a table with a unique key

export async function POST(request: Request): Promise<Response> {
  try {
    // Not request.json(): its result cannot be converted back into the signed bytes.
    const payload = new Uint8Array(await request.arrayBuffer());
    const event = await verifyWebhook({ payload, headers: request.headers, secret });
    const id = String(request.headers.get("webhook-id"));
    if (!seen.has(id)) {
      seen.add(id);
      console.log(id, event.type); // slow work goes into a queue, or into after() of next/server
    }
    return new Response(null, { status: 204 });
  } catch (error) {
    if (!(error instanceof WebhookRefused)) throw error;
    return new Response(null, { status: 400 });
  }
}
