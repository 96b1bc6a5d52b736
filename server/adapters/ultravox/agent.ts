import { z } from "zod";
import type { ProviderAgent } from "../../../routers/ports/ultravox.ts";

export const UltravoxAgent = z
  .looseObject({
    agentId: z.string().min(1),
    publishedRevisionId: z.string().nullish(),
    name: z.string(),
    callTemplate: z.record(z.string(), z.unknown()).nullish(),
  })
  .transform(
    (agent): ProviderAgent => ({
      providerAgentId: agent.agentId,
      revisionId: agent.publishedRevisionId ?? null,
      name: agent.name,
      ...(agent.callTemplate ? { callTemplate: agent.callTemplate } : {}),
    }),
  );
