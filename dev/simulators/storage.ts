import { createHash } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import S3rver from "@20minutes/s3rver";

type Middleware = S3rver["middleware"][number];
type Ctx = Parameters<Middleware>[0];

/** What goes wrong, for the next `times` requests of this method; without a status the line is cut. */
export type StorageFault = { method: string; times: number; status?: number; code?: string };

export type Storage = {
  url: string;
  bucket: string;
  accessKeyId: string;
  secretAccessKey: string;
  directory: string;
  /** Every request since the start, as `PUT /bucket/key`. */
  requests: string[];
  faults(plan: StorageFault[]): void;
  close(): Promise<void>;
};

const bucket = "patchbay";
const kept = "x-amz-meta-checksum-sha256";
/** A dashboard on another port of the laptop sends files from the browser. */
const cors = `<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>
  <AllowedMethod>GET</AllowedMethod><AllowedHeader>*</AllowedHeader></CORSRule></CORSConfiguration>`;

/**
 * An S3 on 127.0.0.1: @20minutes/s3rver keeps the objects and checks the signatures. In front of it stands what real S3
 * does and it does not: nobody is served without a signature, a body must have the checksum that it was announced with,
 * HEAD tells that checksum, and an upload in parts can be given up.
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
  server.httpServer.keepAliveTimeout = 600_000; // no line is closed while somebody is about to use it
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

/** s3rver's own also removes the folder that is left empty, and with it what is being put there: S3 has no folders. */
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
  // The place where s3rver keeps the parts of an upload.
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
