/** The package has no types. These cover what we use, from its source (5.0.0). */
declare module "@20minutes/s3rver" {
  type Ctx = {
    method: string;
    path: string;
    status: number;
    type: string;
    body: unknown;
    headers: Record<string, string | undefined>;
    query: Record<string, string | undefined>;
    req: import("node:stream").Readable;
    response: { get(name: string): string; remove(name: string): void; headers: Record<string, string> };
    set(name: string, value: string): void;
  };
  export default class S3rver {
    constructor(options: {
      address: string;
      port: number;
      directory: string;
      silent: boolean;
      vhostBuckets: boolean;
      configureBuckets: { name: string; configs: string[] }[];
    });
    middleware: ((ctx: Ctx, next: () => Promise<void>) => Promise<void>)[];
    store: {
      getResourcePath(bucket: string, key: string, resource: string): string;
      deleteObject(bucket: string, key: string): Promise<void>;
    };
    httpServer: import("node:http").Server;
    run(): Promise<import("node:net").AddressInfo>;
  }
}
