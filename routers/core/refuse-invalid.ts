import { ApiError, type ErrorDetail } from "./errors.ts";

/** Throws `input_invalid` with all of these details. Does nothing if there are none. */
export function refuseInvalid(details: readonly ErrorDetail[]): void {
  if (details.length > 0) throw ApiError.invalidFields(details);
}
