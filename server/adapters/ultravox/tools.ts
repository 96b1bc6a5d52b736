import { z } from "zod";
import type { ProviderTool, ToolDefinition, UltravoxTools } from "../../../routers/ports/ultravox.ts";
import { json, type UltravoxClient, unless } from "./http-client.ts";

const UltravoxTool = z
  .looseObject({ toolId: z.string(), name: z.string(), definition: z.record(z.string(), z.unknown()).nullish() })
  .transform(
    ({ toolId, name, definition }): ProviderTool => ({
      providerToolId: toolId,
      name,
      ...(definition ? { definition } : {}),
    }),
  );

/** Ultravox's tools (openapi: /api/tools). Their name there is our id; the model sees `modelToolName`. */
export function toolsOf({ request, listAll, remove }: UltravoxClient): UltravoxTools {
  return {
    createTool: (accountId, tool, deadline) =>
      request(
        accountId,
        { method: "POST", repeat: "create", path: "/api/tools", body: bodyOf(tool), read: json(UltravoxTool).from },
        deadline,
      ),

    replaceTool: (accountId, providerToolId, tool, deadline) =>
      request(
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

    getTool(accountId, providerToolId, deadline) {
      const get = {
        method: "GET",
        repeat: "safe",
        path: pathOf(providerToolId),
        read: json(UltravoxTool).from,
      } as const;
      return unless(404, null, request(accountId, get, deadline));
    },

    async findTools(accountId, toolId, deadline) {
      const list = {
        path: "/api/tools",
        query: { search: toolId, ownership: "private" },
        item: UltravoxTool,
        about: [toolId],
      };
      return (await listAll(accountId, list, deadline)).filter((tool) => tool.name === toolId);
    },

    deleteTool: (accountId, providerToolId, deadline) => remove(accountId, pathOf(providerToolId), deadline),
  };
}

const pathOf = (providerToolId: string) => `/api/tools/${encodeURIComponent(providerToolId)}`;
const bodyOf = ({ id, definition }: { id: string; definition: ToolDefinition }) => ({ name: id, definition });
