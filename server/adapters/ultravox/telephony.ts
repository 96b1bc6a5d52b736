import { z } from "zod";
import type {
  ProviderCarrier,
  ProviderRegistration,
  ProviderSip,
  UltravoxTelephony,
} from "../../../routers/ports/ultravox.ts";
import { json, type UltravoxClient, unless } from "./http-client.ts";
import { Instant } from "./values.ts";

const Sip = z
  .looseObject({
    domain: z.string().nullish(),
    allowedCidrRanges: z.array(z.string()).nullish(),
    allowAllAgents: z.boolean().nullish(),
    allowedAgents: z.array(z.looseObject({ agentId: z.string(), toUserPattern: z.string().nullish() })).nullish(),
  })
  .transform(
    (sip): ProviderSip => ({
      domain: sip.domain || null,
      allowedCidrRanges: sip.allowedCidrRanges ?? [],
      allowAllAgents: sip.allowAllAgents ?? false,
      allowedAgents: (sip.allowedAgents ?? []).map(({ agentId, toUserPattern }) => ({
        providerAgentId: agentId,
        toUserPattern: toUserPattern ?? null,
      })),
    }),
  );

const Registration = z
  .looseObject({
    registrationId: z.string().min(1),
    created: Instant,
    username: z.string(),
    proxy: z.string(),
    successful: z.boolean().nullish(),
  })
  .transform(
    ({ registrationId, created, username, proxy, successful }): ProviderRegistration => ({
      providerRegistrationId: registrationId,
      createdAt: created,
      username,
      proxy,
      registered: successful ?? null,
    }),
  );

const Prefix = z.looseObject({ prefix: z.string() }).nullish();
const Carrier = z.looseObject({
  accountSid: z.string().nullish(),
  authId: z.string().nullish(),
  authTokenPrefix: Prefix,
  apiKeyPrefix: Prefix,
});
const carriers = ["twilio", "telnyx", "plivo"] as const;

const readCarrier = (carrier: ProviderCarrier["carrier"]) => (bytes: Buffer) => {
  const found = json(Carrier).from(bytes);
  const secretPrefix = (found.authTokenPrefix ?? found.apiKeyPrefix)?.prefix ?? null;
  return { carrier, account: found.accountSid ?? found.authId ?? null, secretPrefix };
};

/** SIP and the carriers of an account (openapi: /api/sip, /api/telephony_configs). Clients of a shared account share them. */
export function telephonyOf({ request, listAll, remove }: UltravoxClient): UltravoxTelephony {
  const configOf = (carrier: ProviderCarrier["carrier"]) => `/api/telephony_configs/${carrier}`;
  return {
    getSip: (accountId, deadline) =>
      request(accountId, { method: "GET", repeat: "safe", path: "/api/sip", read: json(Sip).from }, deadline),

    updateSip(accountId, { allowedAgents, ...change }, deadline) {
      const agents = allowedAgents?.map(({ providerAgentId, toUserPattern }) => ({
        agentId: providerAgentId,
        ...(toUserPattern === null ? {} : { toUserPattern }),
      }));
      const body = { ...change, ...(agents ? { allowedAgents: agents } : {}) };
      return request(
        accountId,
        { method: "PATCH", repeat: "safe", path: "/api/sip", body, read: json(Sip).from },
        deadline,
      );
    },

    listRegistrations: (accountId, about, deadline) =>
      listAll(accountId, { path: "/api/sip/registrations", query: {}, item: Registration, about }, deadline),

    createRegistration: (accountId, { password, outboundProxy, authUser, ...registration }, deadline) =>
      request(
        accountId,
        {
          method: "POST",
          repeat: "create",
          path: "/api/sip/registrations",
          body: {
            ...registration,
            password,
            ...(outboundProxy === null ? {} : { outboundProxy }),
            ...(authUser === null ? {} : { authUser }),
          },
          read: json(Registration).from,
          secrets: [password],
        },
        deadline,
      ),

    deleteRegistration: (accountId, providerRegistrationId, deadline) =>
      remove(accountId, `/api/sip/registrations/${encodeURIComponent(providerRegistrationId)}`, deadline),

    async listCarriers(accountId, deadline) {
      const found = await Promise.all(
        carriers.map((carrier) =>
          unless(
            404,
            null,
            request(
              accountId,
              { method: "GET", repeat: "safe", path: configOf(carrier), read: readCarrier(carrier) },
              deadline,
            ),
          ),
        ),
      );
      return found.filter((carrier) => carrier !== null);
    },

    /** PATCH needs an existing one and POST a missing one: a 404 decides. A repeated POST finds it, and changes it. */
    async setCarrier(accountId, carrier, fields, deadline) {
      const read = readCarrier(carrier);
      const body = { ...fields, requestContextMapping: { From: "patchbay.from", To: "patchbay.to" } };
      const common = { path: configOf(carrier), body, read, secrets: Object.values(fields) };
      const changed = await unless(
        404,
        null,
        request(accountId, { method: "PATCH", repeat: "safe", ...common }, deadline),
      );
      return changed ?? request(accountId, { method: "POST", repeat: "create", ...common }, deadline);
    },

    removeCarrier: (accountId, carrier, deadline) => remove(accountId, configOf(carrier), deadline),
  };
}
