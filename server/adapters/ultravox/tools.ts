import { z } from "zod";
import type { ProviderTool, ToolDefinition, UltravoxTools } from "../../../routers/ports/ultravox.ts";
import { json, type Line } from "./http-client.ts";

const UltravoxTool = z
  .looseObject({ toolId: z.string(), name: z.string() })
  .transform(({ toolId, name }): ProviderTool => ({ providerToolId: toolId, name }));

/** Ultravox's tools (openapi: /api/tools). Their name there is our id; what the model calls them is `modelToolName`. */
export function toolsOf({ ask, all, remove }: Line): UltravoxTools {
  return {
    createTool: (accountId, tool, deadline) =>
      ask(
        accountId,
        { method: "POST", repeat: "create", path: "/api/tools", body: bodyOf(tool), read: json(UltravoxTool).from },
        deadline,
      ),

    replaceTool: (accountId, providerToolId, tool, deadline) =>
      ask(
        accountId,
        {
          method: "PUT",
          repeat: "safe",
          path: pathOf(providerToolId),
          body: bodyOf(tool),
          read: json(UltravoxTool).from,
        },
        deadline,
      ),

    async findTools(accountId, toolId, deadline) {
      const list = { path: "/api/tools", query: { search: toolId, ownership: "private" }, item: UltravoxTool };
      return (await all(accountId, list, deadline)).filter((tool) => tool.name === toolId);
    },

    deleteTool: (accountId, providerToolId, deadline) => remove(accountId, pathOf(providerToolId), deadline),
  };
}

const pathOf = (providerToolId: string) => `/api/tools/${encodeURIComponent(providerToolId)}`;
const bodyOf = ({ id, definition }: { id: string; definition: ToolDefinition }) => ({ name: id, definition });
