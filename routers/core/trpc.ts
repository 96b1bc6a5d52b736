import { AsyncLocalStorage } from "node:async_hooks";
import { initTRPC } from "@trpc/server";
import { withOwnChecks } from "./checked-procedures.ts";
import { completeMeta, markBuilder } from "./complete-metadata.ts";
import type { Context } from "./context.ts";
import { docUrl, toApiError } from "./errors.ts";
import type { ListKey } from "./pagination.ts";
import type { Access, Meta } from "./rest-metadata.ts";

/** The public URL of the request, for errors that occur before the tRPC context exists. The transport sets it. */
export const requestUrl = new AsyncLocalStorage<string>();

const t = initTRPC
  .context<Context>()
  .meta<Meta>()
  .create({
    // The ping is below the idle timeout of usual load balancers. A client without pings for that time reconnects.
    sse: { ping: { enabled: true, intervalMs: 15_000 }, client: { reconnectAfterInactivityMs: 40_000 } },
    errorFormatter: ({ shape, error, ctx }) => {
      const { errorCode, message, status, details } = toApiError(error);
      const data = {
        code: errorCode,
        httpStatus: status,
        requestId: ctx?.requestId,
        docUrl: docUrl(ctx?.publicUrl ?? requestUrl.getStore() ?? "", errorCode),
        details,
      };
      return { message, code: shape.code, data };
    },
  });

export const router: typeof t.router = (procedures) => t.router(withOwnChecks(procedures));

/**
 * Every builder begins here: it states who may call the procedure, and whose rows it sees. A procedure with incomplete
 * metadata is refused when it is called, and stops the server from starting: see `requireComplete`.
 */
export function accessible(access: Access) {
  const complete = t.middleware(({ path, meta, next, ctx }) => {
    const procedure = completeMeta(path, meta, access);
    return ctx.inTurn(() => next({ ctx: { procedure } }));
  });
  for (const middleware of complete._middlewares) markBuilder(middleware, access);
  return t.procedure.meta({ access } as Meta).use(complete); // the procedure's own metadata is merged into it
}

/** What a list's cursors are signed with: the client, the procedure and its filters. */
export function listKeyOf(ctx: Context, procedure: string, clientId: string, input: unknown): ListKey {
  const { cursor: _, limit: __, ...filters } = (input ?? {}) as Record<string, unknown>;
  return { secret: ctx.signingSecret, clientId, procedure, filters };
}

/** tRPC returns errors as values: they must be thrown inside the transaction, so that it rolls back. */
export function throwFailure<R extends { ok: boolean }>(result: R): Extract<R, { ok: true }> {
  if (!result.ok) throw (result as unknown as { error: Error }).error;
  return result as Extract<R, { ok: true }>;
}
