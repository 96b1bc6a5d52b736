import { command, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { removeCredential, saving, verifying } from "./save.ts";
import {
  Credential,
  CredentialOf,
  PatchTts,
  ProviderPage,
  ProviderStatus,
  PutCredential,
  RemoveCredential,
} from "./schema.ts";
import { listProviders } from "./service.ts";
import { changingTts } from "./tts.ts";

const vault = "provider_credential";
const faultsOfSaving = [
  "credential_refused",
  "provider_account_in_use",
  "provider_account_unreachable",
  "credential_limit_reached",
] as const;

export const credentials = router({
  list: query
    .meta(
      rest("GET", "/auth/providers", "credentials:read", "List providers and your credentials there", {
        description:
          "Every provider, and the secrets of your own, all on one page: whether you have a credential there, how it stands, and whether what the platform has is used instead.",
      }),
    )
    .output(ProviderPage)
    .query(({ ctx }) => listProviders(ctx.tx)),

  put: providerQuery
    .meta(
      rest("PUT", "/auth/providers/{provider}", "credentials:write", "Save your credential for a provider", {
        description:
          "It is tried there first: refused, nothing is saved; where nobody can be asked it is saved as `unverified`. " +
          "A key for ultravox makes that account your own: agents, voices, tools and knowledge bases made from then on live there.",
        faults: [...faultsOfSaving, "credential_in_use", "provider_unavailable"],
        vault,
      }),
    )
    .input(PutCredential)
    .output(Credential)
    .mutation(({ ctx, input }) => ctx.queryProvider(saving(input, ctx.cipher, ctx.providers))),

  remove: command
    .meta(
      rest("DELETE", "/auth/providers/{provider}", "credentials:write", "Delete your credential for a provider", {
        description:
          "Refused while agents, tools or voices need it, unless `force` is true: then they fail. An account at ultravox cannot go while calls in it go on, or, without `force`, are not billed yet. Its key is used for some seconds more, for the bills of calls that are over; one that has not come after about two and a half hours is settled by the seconds that were talked.",
        faults: ["credential_not_found", "credential_in_use"],
      }),
    )
    .input(RemoveCredential)
    .mutation(({ ctx, input }) => removeCredential(ctx.tx, input)),

  verify: providerQuery
    .meta(
      rest("POST", "/auth/providers/{provider}/verify", "credentials:write", "Try a credential at its provider", {
        description: "Refused there, it is answered with the status `invalid` and the reason.",
        faults: ["credential_not_found", "provider_account_unreachable", "provider_unavailable"],
        vault,
      }),
    )
    .input(CredentialOf)
    .output(Credential)
    .mutation(({ ctx, input }) => ctx.queryProvider(verifying(input.provider, ctx.cipher, ctx.providers))),

  tts: providerQuery
    .meta(
      rest("PATCH", "/auth/providers/tts", "credentials:write", "Configure one company of voices", {
        description: "The same as saving or deleting the credential of that provider.",
        faults: [...faultsOfSaving, "credential_in_use", "provider_unavailable"],
        vault,
      }),
    )
    .input(PatchTts)
    .output(ProviderStatus)
    .mutation(({ ctx, input }) => ctx.queryProvider(changingTts(input, ctx.cipher, ctx.providers))),
});
