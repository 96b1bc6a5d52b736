import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { telnyxAccount } from "../../dev/simulators/telnyx.ts";
import { startUltravox } from "../../dev/simulators/ultravox/index.ts";
import { publicKeyFrom, telnyx, verifyTelnyxSignature } from "../../server/adapters/telnyx-webhook.ts";
import { until } from "../support/app.ts";

const account = telnyxAccount();
const apiKey = "simulate.0123456789abcdef0123456789abcdef";
const simulator = await startUltravox({
  seed: 1,
  speed: 500,
  webhookTimeoutMs: 60_000,
  telnyx: account,
  accounts: [{ id: "a", apiKey, webhooks: [] }],
});
const keys = [{ accountId: "pacc_platform", keyId: "1", publicKey: publicKeyFrom(account.publicKey)! }];

const reports = new Map<string, string[]>();
const receiver = createServer(async (req, res) => {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk);
  const rawBody = Buffer.concat(chunks);
  const { verdict } = verifyTelnyxSignature({
    rawBody,
    timestampHeader: req.headers["telnyx-timestamp"] as string,
    signatureHeader: req.headers["telnyx-signature-ed25519"] as string,
    keys,
    toleranceSeconds: 300,
    now: new Date(),
  });
  const { leg } = telnyx.readEvent(rawBody);
  const said = leg?.end ? `${leg.status}: ${leg.end.cause}` : leg?.status;
  reports.set(req.url!, [...(reports.get(req.url!) ?? []), verdict === "valid" ? String(said) : verdict]);
  res.writeHead(204).end();
});
receiver.listen(0, "127.0.0.1");
await once(receiver, "listening");
afterAll(async () => {
  await simulator.close();
  receiver.close();
});

test.each([
  ["0000", ["initiated", "answered", "ended: normal"]],
  ["0001", ["initiated", "ended: busy"]],
  ["0002", ["initiated", "ended: cancelled"]],
  ["0004", ["initiated", "ended: invalid_number"]],
  ["0012", ["initiated", "ended: rejected"]],
  ["0013", ["initiated", "ended: no_answer"]],
])("the simulated Telnyx sends signed reports about a number ending in %s", async (ending, expected) => {
  const { port } = receiver.address() as AddressInfo;
  const response = await fetch(`${simulator.url}/api/calls`, {
    method: "POST",
    headers: { "x-api-key": apiKey, "content-type": "application/json" },
    body: JSON.stringify({
      systemPrompt: "You answer for a bakery.",
      medium: {
        telnyx: {
          outgoing: {
            to: `+1415555${ending}`,
            from: "+14155550199",
            additionalParams: { StatusCallback: `http://127.0.0.1:${port}/${ending}` },
          },
        },
      },
    }),
  });
  expect(response.status).toBe(201);
  await until(async () => reports.get(`/${ending}`)?.length === expected.length);
  // Each report is a separate request: their order may change.
  expect(reports.get(`/${ending}`)!.toSorted()).toEqual(expected.toSorted());
});
