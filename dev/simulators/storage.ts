import { createHash } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import S3rver from "@20minutes/s3rver";

type Middleware = S3rver["middleware"][number];
type Ctx = Parameters<Middleware>[0];

/** A fault for the next `times` requests of this method. Without a status the connection is closed. */
export type StorageFault = { method: string; times: number; status?: number; code?: string };

export type Storage = {
  url: string;
  bucket: string;
  accessKeyId: string;
  secretAccessKey: string;
  directory: string;
  /** Every request since the start, in the form `PUT /bucket/key`. */
  requests: string[];
  faults(plan: StorageFault[]): void;
  close(): Promise<void>;
};

const bucket = "patchbay";
const kept = "x-amz-meta-checksum-sha256";
/** A dashboard on another port of the same machine uploads files from the browser. */
const cors = `<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>
  <AllowedMethod>GET</AllowedMethod><AllowedHeader>*</AllowedHeader></CORSRule></CORSConfiguration>`;

/**
 * An S3 on 127.0.0.1. @20minutes/s3rver stores the objects and checks signatures. The server in front adds what s3rver
 * lacks and S3 has: a signature is required, a body must match its announced checksum, HEAD returns that checksum, and a
 * multipart upload can be aborted.
 */
export async function startStorage({ port = 0, directory }: { port?: number; directory: string }): Promise<Storage> {
  await mkdir(directory, { recursive: true });
  let plan: StorageFault[] = [];
  const requests: string[] = [];
  const server = new S3rver({
    address: "127.0.0.1",
    port,
    directory,
    silent: true,
    vhostBuckets: false,
    configureBuckets: [{ name: bucket, configs: [cors] }],
  });
  server.store.deleteObject = (bucketName, key) => deleteFiles(server.store, bucketName, key);
  const note: Middleware = (ctx, next) => {
    requests.push(`${ctx.method} ${ctx.path}`);
    return next();
  };
  server.middleware.unshift(
    note,
    (ctx, next) => fail(ctx, plan, next),
    signedOnly,
    (ctx, next) => giveUpParts(ctx, directory, next),
    checksums,
  );
  const { port: listening } = await server.run();
  server.httpServer.keepAliveTimeout = 600_000; // a shorter time closes connections that a client is about to reuse
  return {
    url: `http://127.0.0.1:${listening}`,
    bucket,
    accessKeyId: "S3RVER",
    secretAccessKey: "S3RVER",
    directory,
    requests,
    faults: (next) => {
      plan = next.map((fault) => ({ ...fault }));
    },
    async close() {
      const closed = new Promise((resolve) => server.httpServer.close(resolve));
      server.httpServer.closeAllConnections();
      await closed;
    },
  };
}

/** s3rver's version also removes the empty folder, and with it a file that is being written there. S3 has no folders. */
async function deleteFiles(store: S3rver["store"], bucketName: string, key: string): Promise<void> {
  const files = ["object", "object.md5", "metadata.json"].map((each) => store.getResourcePath(bucketName, key, each));
  await Promise.all(files.map((file) => rm(file, { force: true })));
}

async function fail(ctx: Ctx, plan: StorageFault[], next: () => Promise<void>): Promise<void> {
  const fault = plan.find(({ method, times }) => method === ctx.method && times > 0);
  if (!fault) return next();
  fault.times -= 1;
  if (fault.status === undefined) ctx.req.destroy();
  else refuse(ctx, fault.status, fault.code ?? "InternalError");
}

async function signedOnly(ctx: Ctx, next: () => Promise<void>): Promise<void> {
  if (ctx.method === "OPTIONS" || ctx.headers.authorization || ctx.query["X-Amz-Signature"]) return next();
  refuse(ctx, 403, "AccessDenied");
}

async function giveUpParts(ctx: Ctx, directory: string, next: () => Promise<void>): Promise<void> {
  const uploadId = ctx.query.uploadId;
  if (ctx.method !== "DELETE" || !uploadId) return next();
  if (!/^[\w-]+$/.test(uploadId)) return refuse(ctx, 404, "NoSuchUpload");
  // The folder where s3rver stores the parts of an upload.
  await rm(join(directory, bucket, "._S3rver_uploads", uploadId), { recursive: true, force: true });
  ctx.status = 204;
}

async function checksums(ctx: Ctx, next: () => Promise<void>): Promise<void> {
  const announced = ctx.method === "PUT" ? ctx.headers["x-amz-checksum-sha256"] : undefined;
  if (announced) {
    const chunks: Buffer[] = [];
    for await (const chunk of ctx.req) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (createHash("sha256").update(body).digest("base64") !== announced) return refuse(ctx, 400, "BadDigest");
    ctx.req = Readable.from([body]);
    ctx.headers[kept] = announced;
  }
  await next();
  const known = ctx.response.get(kept);
  if (!known) return;
  ctx.response.remove(kept);
  if (ctx.headers["x-amz-checksum-mode"] === "ENABLED") ctx.set("x-amz-checksum-sha256", known);
}

function refuse(ctx: Ctx, status: number, code: string): void {
  ctx.status = status;
  ctx.type = "application/xml";
  ctx.body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${code}</Message></Error>`;
}
