import {
  DecryptCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  InvalidCiphertextException,
  KMSClient,
  type KMSClientConfig,
} from "@aws-sdk/client-kms";
import { KeysUnavailable } from "../../routers/ports/vault.ts";
import { before } from "./http/abort.ts";
import type { KeyContext, Master } from "./vault.ts";

export type KmsOptions = {
  region: string;
  /** For tests and simulators. */
  endpoint?: string;
  credentials?: KMSClientConfig["credentials"];
  /** For one operation, retries included. */
  deadlineMs?: number;
  /** For one connection, and for one response on it. */
  connectMs?: number;
  attemptMs?: number;
};

/**
 * AWS KMS keys. A wrapped data key is bound to the client, the purpose and its own id by the encryption context
 * (docs.aws.amazon.com/kms, "Encryption context"): with another context KMS does not decrypt it. The KMS log names them.
 */
export function openKms(options: KmsOptions) {
  const { region, endpoint, credentials, deadlineMs = 5_000, connectMs = 1_000, attemptMs = 2_000 } = options;
  const kms = new KMSClient({
    region,
    maxAttempts: 3,
    requestHandler: { connectionTimeout: connectMs, requestTimeout: attemptMs, throwOnRequestTimeout: true },
    ...(endpoint ? { endpoint } : {}),
    ...(credentials ? { credentials } : {}),
  });

  /** The SDK sleeps between its attempts without watching the signal, so the wait has its own deadline. */
  async function request<T>(send: (abort: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    const signal = AbortSignal.timeout(deadlineMs);
    try {
      return await before(signal, send({ abortSignal: signal }));
    } catch (cause) {
      if (cause instanceof InvalidCiphertextException) {
        throw new Error("KMS could not decrypt this data key: its row is not the one that the key was created for.", {
          cause,
        });
      }
      throw new KeysUnavailable("The key service did not return a key", { cause });
    }
  }

  /** `keyId`: an id or an ARN. An alias may later name another key, and rows must name the key that they need. */
  function master(keyId: string): Master {
    return {
      name: `kms:${keyId}`,
      async generate(context) {
        const input = { KeyId: keyId, KeySpec: "AES_256" as const, EncryptionContext: contextOf(context) };
        const { Plaintext, CiphertextBlob } = await request((abort) =>
          kms.send(new GenerateDataKeyCommand(input), abort),
        );
        return { plain: bytesOf(Plaintext), wrapped: bytesOf(CiphertextBlob).toString("base64") };
      },
      async wrap(plain, context) {
        const input = { KeyId: keyId, Plaintext: plain, EncryptionContext: contextOf(context) };
        const { CiphertextBlob } = await request((abort) => kms.send(new EncryptCommand(input), abort));
        return bytesOf(CiphertextBlob).toString("base64");
      },
      async unwrap(wrapped, context) {
        const CiphertextBlob = Buffer.from(wrapped, "base64");
        const input = { KeyId: keyId, CiphertextBlob, EncryptionContext: contextOf(context) };
        const { Plaintext } = await request((abort) => kms.send(new DecryptCommand(input), abort));
        return bytesOf(Plaintext);
      },
    };
  }

  return { master, close: () => kms.destroy() };
}

const contextOf = ({ clientId, purpose, id }: KeyContext) => ({ client: clientId, purpose, key: id });

function bytesOf(bytes: Uint8Array | undefined): Buffer {
  if (!bytes) throw new KeysUnavailable("The response of the key service has no key");
  return Buffer.from(bytes);
}
