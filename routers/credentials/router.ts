import { command, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { removeCredential, saveCredential, verifyCredential } from "./save.ts";
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
import { changeTts } from "./tts.ts";

const vault = "provider_credential";
const saveErrors = [
  "credential_refused",
  "provider_account_in_use",
  "provider_account_unreachable",
  "credential_limit_reached",
] as const;

export const credentials = router({
  list: query
    .meta(
      rest("GET", "/auth/providers", "credentials:read", "List providers and your credentials", {
        description:
          "All providers and your own secrets, on one page. Each shows your credential with its status, or whether the platform's credential is used.",
      }),
    )
    .output(ProviderPage)
    .query(({ ctx }) => listProviders(ctx.tx)),

  put: providerQuery
    .meta(
      rest("PUT", "/auth/providers/{provider}", "credentials:write", "Save a credential", {
        description:
          "The credential is verified at the provider first. If the provider refuses it, nothing is saved. If it cannot be verified, it is saved as `unverified`. " +
          "After you save a key for ultravox, new agents, voices, tools and knowledge bases are created in that account.",
        errors: [...saveErrors, "credential_in_use", "provider_unavailable"],
        vault,
      }),
    )
    .input(PutCredential)
    .output(Credential)
    .mutation(({ ctx, input }) => ctx.queryProvider(saveCredential(input, ctx.cipher, ctx.providers))),

  remove: command
    .meta(
      rest("DELETE", "/auth/providers/{provider}", "credentials:write", "Delete a credential", {
        description:
          "Fails while agents, tools or voices use it, unless `force` is true; then they stop working. An ultravox key cannot be deleted while calls are running, or, without `force`, while calls are not billed. The key is used for some seconds more, to read the cost of ended calls. If that cost is not available after about two and a half hours, the call is billed by its talk time.",
        errors: ["credential_not_found", "credential_in_use"],
      }),
    )
    .input(RemoveCredential)
    .mutation(({ ctx, input }) => removeCredential(ctx.tx, input)),

  verify: providerQuery
    .meta(
      rest("POST", "/auth/providers/{provider}/verify", "credentials:write", "Verify a credential", {
        description: "If the provider refuses it, the response has the status `invalid` with the reason.",
        errors: ["credential_not_found", "provider_account_unreachable", "provider_unavailable"],
        vault,
      }),
    )
    .input(CredentialOf)
    .output(Credential)
    .mutation(({ ctx, input }) => ctx.queryProvider(verifyCredential(input.provider, ctx.cipher, ctx.providers))),

  tts: providerQuery
    .meta(
      rest("PATCH", "/auth/providers/tts", "credentials:write", "Configure a TTS provider", {
        description: "The same as saving or deleting the credential of this provider.",
        errors: [...saveErrors, "credential_in_use", "provider_unavailable"],
        vault,
      }),
    )
    .input(PatchTts)
    .output(ProviderStatus)
    .mutation(({ ctx, input }) => ctx.queryProvider(changeTts(input, ctx.cipher, ctx.providers))),
});
