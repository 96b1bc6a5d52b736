import { newId } from "../../../db/ids.ts";
import type { TestApp } from "../../support/app.ts";
import { type ModuleInputs, page } from "./resource.ts";

/** An event that could not be applied. */
async function failedMessage(h: TestApp): Promise<string> {
  const id = newId("ingress");
  await h.owner`insert into ingress_events
    (id, provider, provider_account_id, key, event_type, body, headers, verified_by, status)
    values (${id}, 'telnyx', 'pacc_platform', ${id}, 'call.hangup', '{}', '{}', 'pacc_platform#1', 'failed')`;
  return id;
}

export const ingress: ModuleInputs = {
  inputs: {
    "admin.ingress.list": ({ who, own }) => ({
      ...page,
      provider: "telnyx",
      status: "failed",
      eventType: "call.hangup",
      account: "pacc_platform",
      clientId: who.clientId,
      subjectId: own.call,
      createdAfter: "2026-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "admin.ingress.get": async ({ h }) => ({ id: await failedMessage(h) }),
    "admin.ingress.reprocess": async ({ h }) => ({ id: await failedMessage(h) }),
    "admin.ingress.reprocessMany": () => ({
      provider: "telnyx",
      eventType: "call.hangup",
      statuses: ["failed"],
      createdAfter: "2026-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
  },
};
