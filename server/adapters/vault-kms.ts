import {
  DecryptCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  InvalidCiphertextException,
  KMSClient,
  type KMSClientConfig,
} from "@aws-sdk/client-kms";
import { KeysUnavailable } from "../../routers/ports/vault.ts";
import { before } from "./http.ts";
import type { KeyContext, Master } from "./vault.ts";

export type KmsOptions = {
  region: string;
  /** Of a stand-in. */
  endpoint?: string;
  credentials?: KMSClientConfig["credentials"];
  /** For one answer of KMS, repeats included. */
  deadlineMs?: number;
  /** For one line to it, and for one answer on it. */
  connectMs?: number;
  attemptMs?: number;
};

/**
 * Keys of AWS KMS. What it wraps is bound to the client, the purpose and the data key by the encryption context
 * (docs.aws.amazon.com/kms, "Encryption context"): under another one it does not open. Its log names them.
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

  /** The client library sleeps between its attempts without a look at the signal: so the waiting ends by itself. */
  async function ask<T>(what: (abort: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    const signal = AbortSignal.timeout(deadlineMs);
    try {
      return await before(signal, what({ abortSignal: signal }));
    } catch (cause) {
      if (cause instanceof InvalidCiphertextException) {
        throw new Error("KMS says that this data key is not what it seems: its row is not the one it was made for.", {
          cause,
        });
      }
      throw new KeysUnavailable("The key service did not give a key", { cause });
    }
  }

  /** `keyId`: an id or an ARN. An alias may come to mean another key, and rows must name the one they need. */
  function master(keyId: string): Master {
    return {
      name: `kms:${keyId}`,
      async generate(context) {
        const input = { KeyId: keyId, KeySpec: "AES_256" as const, EncryptionContext: contextOf(context) };
        const { Plaintext, CiphertextBlob } = await ask((abort) => kms.send(new GenerateDataKeyCommand(input), abort));
        return { plain: whole(Plaintext), wrapped: whole(CiphertextBlob).toString("base64") };
      },
      async wrap(plain, context) {
        const input = { KeyId: keyId, Plaintext: plain, EncryptionContext: contextOf(context) };
        const { CiphertextBlob } = await ask((abort) => kms.send(new EncryptCommand(input), abort));
        return whole(CiphertextBlob).toString("base64");
      },
      async unwrap(wrapped, context) {
        const CiphertextBlob = Buffer.from(wrapped, "base64");
        const input = { KeyId: keyId, CiphertextBlob, EncryptionContext: contextOf(context) };
        const { Plaintext } = await ask((abort) => kms.send(new DecryptCommand(input), abort));
        return whole(Plaintext);
      },
    };
  }

  return { master, close: () => kms.destroy() };
}

const contextOf = ({ clientId, purpose, id }: KeyContext) => ({ client: clientId, purpose, key: id });

function whole(bytes: Uint8Array | undefined): Buffer {
  if (!bytes) throw new KeysUnavailable("The key service gave an answer without a key");
  return Buffer.from(bytes);
}
