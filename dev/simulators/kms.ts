import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";

/**
 * Simulates AWS KMS: the operations on symmetric keys that the vault needs, over the service's protocol (JSON 1.1,
 * docs.aws.amazon.com/kms/latest/APIReference). Request signatures are not checked.
 */
export type Kms = {
  url: string;
  /** Every request in order of arrival, without its plaintext and ciphertext. */
  requests: { operation: string; keyId: string | null; context: Context; answered: string }[];
  createKey(): string;
  disableKey(id: string): void;
  enableKey(id: string): void;
  /** The next `times` requests fail with this error. */
  fail(error: "ThrottlingException" | "KMSInternalException" | "DependencyTimeoutException", times: number): void;
  close(): Promise<void>;
};

type Context = Record<string, string>;
type Key = { id: string; material: Buffer; enabled: boolean };

class Refusal extends Error {
  readonly status: number;
  constructor(name: string, message: string, status = 400) {
    super(message);
    this.name = name;
    this.status = status;
  }
}

const EncryptionContext = z.record(z.string(), z.string()).default({});
const Blob = z.base64();
const inputs = {
  DescribeKey: z.object({ KeyId: z.string() }),
  GenerateDataKey: z.object({ KeyId: z.string(), KeySpec: z.literal("AES_256"), EncryptionContext }),
  Encrypt: z.object({ KeyId: z.string(), Plaintext: Blob, EncryptionContext }),
  Decrypt: z.object({ CiphertextBlob: Blob, KeyId: z.string().optional(), EncryptionContext }),
};
type Operation = keyof typeof inputs;

const arn = (id: string) => `arn:aws:kms:us-east-1:000000000000:key/${id}`;
const clientErrors = new Set(["ThrottlingException"]);

type Store = { keys: Map<string, Key>; requests: Kms["requests"]; failures: string[] };

export async function startKms({ port = 0 } = {}): Promise<Kms> {
  const store: Store = { keys: new Map(), requests: [], failures: [] };
  const { keys, requests, failures } = store;
  const server = createServer((request, response) => void handle(store, request, response));
  server.keepAliveTimeout = 600_000; // a shorter time closes connections that a client is about to reuse
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    createKey() {
      const id = randomUUID();
      keys.set(id, { id, material: randomBytes(32), enabled: true });
      return id;
    },
    disableKey: (id) => void Object.assign(find(keys, id), { enabled: false }),
    enableKey(id) {
      const key = keys.get(id);
      if (key) key.enabled = true;
    },
    fail: (error, times) => void failures.push(...Array.from({ length: times }, () => error)),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function handle(store: Store, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const operation = String(request.headers["x-amz-target"]).split(".")[1] ?? "";
  const body = await read(request);
  const entry = { operation, ...factsOf(body), answered: "ok" };
  store.requests.push(entry);
  const send = (status: number, content: object) =>
    response.writeHead(status, { "content-type": "application/x-amz-json-1.1" }).end(JSON.stringify(content));
  try {
    send(200, execute(store, operation, body));
  } catch (error) {
    const { name, message, status } = error instanceof Refusal ? error : new Refusal("KMSInternalException", "", 500);
    entry.answered = name;
    send(status, { __type: name, message });
  }
}

function execute({ keys, failures }: Store, operation: string, body: unknown): object {
  const failure = failures.shift();
  if (failure) throw new Refusal(failure, "This fault was requested.", clientErrors.has(failure) ? 400 : 500);
  if (!(operation in inputs)) throw new Refusal("UnknownOperationException", operation);
  const name = operation as Operation;
  const input = inputs[name].safeParse(body);
  if (!input.success) throw new Refusal("ValidationException", input.error.message);
  return operations[name](keys, input.data as never); // parsed by the schema of this operation
}

function find(keys: Store["keys"], name: string): Key {
  const key = keys.get(name.replace(/^arn:.*:key\//, ""));
  if (!key) throw new Refusal("NotFoundException", `Key '${arn(name)}' does not exist`);
  if (!key.enabled) throw new Refusal("DisabledException", `${arn(key.id)} is disabled.`);
  return key;
}

const operations: { [O in Operation]: (keys: Store["keys"], input: z.output<(typeof inputs)[O]>) => object } = {
  DescribeKey: (keys, { KeyId }) => ({ KeyMetadata: { KeyId, Arn: arn(find(keys, KeyId).id), Enabled: true } }),
  GenerateDataKey(keys, { KeyId, EncryptionContext }) {
    const key = find(keys, KeyId);
    const plain = randomBytes(32);
    const CiphertextBlob = seal(key, plain, EncryptionContext);
    return { KeyId: arn(key.id), Plaintext: plain.toString("base64"), CiphertextBlob };
  },
  Encrypt(keys, { KeyId, Plaintext, EncryptionContext }) {
    const key = find(keys, KeyId);
    return { KeyId: arn(key.id), CiphertextBlob: seal(key, Buffer.from(Plaintext, "base64"), EncryptionContext) };
  },
  Decrypt(keys, { CiphertextBlob, KeyId, EncryptionContext }) {
    const bytes = Buffer.from(CiphertextBlob, "base64");
    const key = find(keys, keyOf(bytes));
    if (KeyId && find(keys, KeyId).id !== key.id)
      throw new Refusal("IncorrectKeyException", "The ciphertext belongs to another key.");
    return { KeyId: arn(key.id), Plaintext: open(key, bytes, EncryptionContext).toString("base64") };
  },
};

async function read(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString() || "{}");
}

function factsOf(body: unknown) {
  const { KeyId, EncryptionContext = {} } = body as { KeyId?: string; EncryptionContext?: Context };
  return { keyId: KeyId ?? null, context: EncryptionContext };
}

/** The order of a context's pairs has no meaning. */
const canonical = (context: Context) =>
  Buffer.from(JSON.stringify(Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1))));

const idBytes = 36;
const keyOf = (bytes: Buffer) => bytes.subarray(0, idBytes).toString();

function seal({ id, material }: Key, plain: Buffer, context: Context): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", material, nonce).setAAD(canonical(context));
  return Buffer.concat([Buffer.from(id), nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]).toString(
    "base64",
  );
}

function open({ material }: Key, bytes: Buffer, context: Context): Buffer {
  const nonce = bytes.subarray(idBytes, idBytes + 12);
  const decipher = createDecipheriv("aes-256-gcm", material, nonce).setAAD(canonical(context));
  decipher.setAuthTag(bytes.subarray(-16));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(idBytes + 12, -16)), decipher.final()]);
  } catch {
    throw new Refusal("InvalidCiphertextException", "");
  }
}
