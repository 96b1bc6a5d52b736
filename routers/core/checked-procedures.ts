import { TRPCError } from "@trpc/server";
import type { z } from "zod";
import type { Context } from "./context.ts";
import { type Projection, projectionOf } from "./projection.ts";

type Call = { ctx: Context; getRawInput(): Promise<unknown>; next(changes?: object): Promise<Result> };
type Result = { ok: true; data: unknown } | { ok: false };
type Middleware = ((call: Call) => Promise<Result>) & { _type?: "input" | "output" };
type Built = { _def?: { middlewares: Middleware[]; output?: z.ZodType; type?: string } };

/** The input of a call as its builder has parsed it: see `parseInput`. Each call has its own `getRawInput`. */
const parsedInputs = new WeakMap<object, { value: unknown }>();

export function rememberParsed(getRawInput: object, value: unknown) {
  parsedInputs.set(getRawInput, { value });
}

/**
 * Replaces tRPC's own checks in the procedures of a router. The builder has parsed the input already, so it is not parsed
 * twice. The output is validated in full where `ctx.validatesOutput`, and elsewhere copied by its schema, which is cheap.
 */
export function withOwnChecks<Procedures extends object>(procedures: Procedures): Procedures {
  for (const [name, built] of Object.entries(procedures) as [string, Built][]) {
    const { middlewares, output } = built._def ?? {};
    if (!middlewares) continue; // a nested router: its procedures were given to `router` before
    if (output && !middlewares.some(isOutput)) throw new Error(`${name}: its output would not be checked.`);
    for (const [place, middleware] of middlewares.entries()) {
      if (middleware._type === "input") middlewares[place] = marked("input", inputOnce(middleware));
      if (isOutput(middleware)) middlewares[place] = marked("output", outputOf(middleware, output!));
    }
  }
  return procedures;
}

const isOutput = ({ _type }: Middleware) => _type === "output";
const marked = (_type: "input" | "output", middleware: Middleware): Middleware => Object.assign(middleware, { _type });

const inputOnce =
  (parse: Middleware): Middleware =>
  (call) => {
    const parsed = parsedInputs.get(call.getRawInput);
    return parsed ? call.next({ input: parsed.value }) : parse(call);
  };

function outputOf(validate: Middleware, schema: z.ZodType): Middleware {
  let project: Projection | undefined;
  return async (call) => {
    if (call.ctx.validatesOutput) return validate(call);
    project ??= projectionOf(schema);
    const result = await call.next();
    if (!result.ok) return result;
    try {
      return { ...result, data: project(result.data) };
    } catch (cause) {
      throw new TRPCError({
        message: "The output has not the form of its schema",
        code: "INTERNAL_SERVER_ERROR",
        cause,
      });
    }
  };
}
