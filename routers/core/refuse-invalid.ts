import { ApiError, type ErrorDetail } from "./errors.ts";

/** Throws `input_invalid` with all of these details. Does nothing if there are none. */
export function refuseInvalid(details: readonly ErrorDetail[]): void {
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path}: ${first.message}`, { details: [...details] });
}
