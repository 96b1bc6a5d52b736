// WEBHOOK_SECRET=whsec_… PORT=5000 node express.ts
import express from "express";
import { verifyWebhook, WebhookRefused } from "patchbay/client";

const secret = process.env.WEBHOOK_SECRET?.split(" ") ?? [];
const seen = new Set<string>(); // for the example only: in production, a table with a unique key
const app = express();

// Before express.json(), or on a path that it does not handle: here the body stays raw bytes.
app.post("/hooks", express.raw({ type: () => true, limit: "1mb" }), async (request, response) => {
  try {
    const event = await verifyWebhook({ payload: request.body ?? "", headers: request.headers, secret });
    const id = String(request.headers["webhook-id"]);
    const isNew = !seen.has(id);
    seen.add(id);
    response.sendStatus(204);
    if (isNew) console.log(id, event.type);
  } catch (error) {
    if (!(error instanceof WebhookRefused)) throw error;
    response.sendStatus(400);
  }
});

app.use(express.json()); // for all routes below

app.listen(Number(process.env.PORT ?? 5000), "127.0.0.1");
