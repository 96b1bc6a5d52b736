import { ProviderError } from "../../../routers/ports/provider-error.ts";
import { openBreaker } from "../http/breaker.ts";
import { send } from "../http/client.ts";
import type { UltravoxClient, UltravoxOptions } from "./http-client.ts";

/** Ten megabytes over a slow connection. */
const putTimeoutMs = 45_000;

type Options = Pick<UltravoxOptions, "baseUrl" | "log" | "pace" | "breaker">;

/** Files behind presigned links of the provider: the query of a link is secret. */
export function openStorage({ baseUrl, log, pace, breaker }: Options): Pick<UltravoxClient, "put" | "fetch"> {
  const common = {
    provider: "Ultravox's storage",
    repeat: "safe",
    breaker: openBreaker(breaker),
    log,
  } as const;

  function secretsIn(link: string): string[] {
    const url = URL.canParse(link) ? new URL(link) : null;
    // Plain HTTP only to the provider's own origin, for development.
    if (url && (url.protocol === "https:" || url.origin === new URL(baseUrl).origin))
      return [...url.searchParams.values()];
    throw new ProviderError("unavailable", "Ultravox returned a link to a file that cannot be used");
  }

  return {
    fetch: async (link, accept, { signal: deadline }) =>
      send({
        ...{ ...common, pace, deadline, secrets: secretsIn(link) },
        ...{ method: "GET", url: link, headers: { accept }, read: (bytes) => bytes },
      }),

    put: async (link, { contentType, bytes }, { signal: deadline }) =>
      send({
        ...{ ...common, pace: { attemptTimeoutMs: putTimeoutMs, ...pace }, deadline, secrets: secretsIn(link) },
        ...{ method: "PUT", url: link, headers: { "content-type": contentType }, body: bytes, read: () => {} },
      }),
  };
}
