import type { Deadline } from "./provider-error.ts";

export type ProviderTool = { providerToolId: string; name: string; definition?: ToolDefinition };

/** A whole tool in the provider's format (openapi: ultravox.v1.BaseToolDefinition). It contains no secret. */
export type ToolDefinition = Record<string, unknown>;

export interface UltravoxTools {
  createTool(
    accountId: string,
    tool: { id: string; definition: ToolDefinition },
    deadline: Deadline,
  ): Promise<ProviderTool>;
  /** Replaces the whole tool: the provider has no partial update of tools. */
  replaceTool(
    accountId: string,
    providerToolId: string,
    tool: { id: string; definition: ToolDefinition },
    deadline: Deadline,
  ): Promise<ProviderTool>;
  /** null if the provider has no such tool. */
  getTool(accountId: string, providerToolId: string, deadline: Deadline): Promise<ProviderTool | null>;
  findTools(accountId: string, toolId: string, deadline: Deadline): Promise<ProviderTool[]>;
  deleteTool(accountId: string, providerToolId: string, deadline: Deadline): Promise<void>;
}
