import { and, desc, eq, isNull, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { webhookEndpoints } from "../../../db/schema/events.ts";
import { createdByTree } from "../../api-keys/creators.ts";
import type { EndpointRef } from "../schema.ts";
import { disableEndpoint } from "./service.ts";

/** The enabled endpoints of a person whose access changed. */
export type EndpointsLeft = { disabledWebhooks: EndpointRef[]; keptWebhooks: EndpointRef[] };

/**
 * Finds the enabled endpoints that a person created, directly or with their keys, and disables them if wanted. Each goes on
 * receiving events otherwise. Call it once the person's access has changed: an endpoint that they create concurrently is
 * visible then (see `lockCreator`).
 */
export async function settleEndpointsOf(tx: Tx, userId: string, isDisabling: boolean): Promise<EndpointsLeft> {
  const isTheirs = and(
    sql`${webhookEndpoints.createdBy} in ${createdByTree(userId)}`,
    eq(webhookEndpoints.status, "enabled"),
    isNull(webhookEndpoints.deletedAt),
  );
  const { id, url, description, createdBy } = webhookEndpoints;
  const found = tx
    .select({ id, url, description, createdBy })
    .from(webhookEndpoints)
    .where(isTheirs)
    .orderBy(desc(webhookEndpoints.id));
  if (!isDisabling) return { disabledWebhooks: [], keptWebhooks: await found };
  const disabledWebhooks = await found.for("no key update");
  for (const endpoint of disabledWebhooks) await disableEndpoint(tx, endpoint, "request");
  return { disabledWebhooks, keptWebhooks: [] };
}
