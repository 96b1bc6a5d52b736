import { S3ServiceException } from "@aws-sdk/client-s3";
import { ProviderError } from "../../routers/ports/provider-error.ts";

/** The kind of an error that does not show whether the request was executed. */
type DoubtKind = "unavailable" | "unknown";

export async function withStorageErrors<T>(doubt: DoubtKind, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw storageError(error, doubt);
  }
}

export function storageError(error: unknown, doubt: DoubtKind): ProviderError {
  if (error instanceof ProviderError) return error;
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  const extra = { cause: error, status };
  if (isMissing(error)) return new ProviderError("refused", "The file is not in storage.", extra);
  if (status === 429 || status === 503) {
    return new ProviderError("unavailable", "The file storage is overloaded.", extra);
  }
  if (status !== undefined && status >= 400 && status < 500) {
    return new ProviderError("refused", `The file storage refused: ${(error as Error).name}.`, extra);
  }
  return new ProviderError(doubt, "The file storage did not answer.", extra);
}

/** A missing bucket is a mistake of the installation: it does not mean that a file is gone. */
export function isMissing(error: unknown): boolean {
  return error instanceof S3ServiceException && (error.name === "NotFound" || error.name === "NoSuchKey");
}

export const tooLarge = (maxBytes: number) =>
  new ProviderError("refused", `The file is larger than ${maxBytes} bytes.`);
