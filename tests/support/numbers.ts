import { expect } from "vitest";
import type { TestApp } from "./app.ts";

type Assigned = { id: string; clientId: string; pattern: string };

/** An operator assigns a number of the shared account to a client. */
export async function assign(h: TestApp, clientId: string, pattern: string, more: object = {}): Promise<Assigned> {
  const response = await h.post("/admin/numbers", { clientId, pattern, ...more }, { key: await h.operator() });
  expect(response).toMatchObject({ status: 201 });
  return response.body.data;
}
