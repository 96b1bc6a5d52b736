import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";

const megabyte = 1_000_000;

/** The allowed files per purpose. The knowledge types are those that the voice provider reads. */
export const uploadRules = {
  voice_sample: { contentTypes: ["audio/wav", "audio/mpeg"], maxBytes: 10 * megabyte },
  knowledge_file: {
    contentTypes: [
      "application/pdf",
      "application/msword",
      "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
      "application/vnd.ms-powerpoint",
      "application/vnd.openxmlformats-officedocument.presentationml.presentation",
      "text/plain",
      "text/markdown",
    ],
    maxBytes: 10 * megabyte,
  },
  campaign_contacts: { contentTypes: ["text/csv"], maxBytes: 50 * megabyte },
} as const satisfies Record<string, { contentTypes: readonly [string, ...string[]]; maxBytes: number }>;

export type UploadPurpose = keyof typeof uploadRules;

/** No path, no control characters, and no characters that change the text direction. */
const FileName = z
  .string()
  .min(1)
  .max(255)
  .refine(
    (name) => !/[/\\\p{Cc}\u202a-\u202e\u2066-\u2069]|^\.{1,2}$/u.test(name) && name.isWellFormed(),
    "Give a file name without a path and without control characters.",
  );

const Sha256 = z
  .string()
  .regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, "Give the SHA-256 of the file: 32 bytes in base64.")
  .meta({ description: "SHA-256 of the file, in base64.", examples: ["uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="] });

/** One announced file. Storage accepts exactly this file. */
export const PresignFile = <P extends UploadPurpose>(purpose: P) => {
  const { contentTypes, maxBytes } = uploadRules[purpose];
  return z.strictObject({
    fileName: FileName.meta({
      description: "Without a path and without control characters.",
      examples: [exampleNames[purpose]],
    }),
    contentType: z.enum(contentTypes).meta({ examples: [contentTypes[0]] }),
    bytes: z
      .int()
      .min(1)
      .max(maxBytes)
      .meta({ description: "The size of the file.", examples: [48_000] }),
    sha256: Sha256,
  });
};
export type PresignFile = { fileName: string; contentType: string; bytes: number; sha256: string };

const exampleNames = {
  voice_sample: "sample.wav",
  knowledge_file: "opening-hours.pdf",
  campaign_contacts: "contacts.csv",
} satisfies Record<UploadPurpose, string>;

/** The input of an endpoint that returns a list of `PresignedUpload`. */
export const PresignFiles = (purpose: UploadPurpose) => z.array(PresignFile(purpose)).min(1).max(20);

/** How to upload the bytes: one request with this method and these headers, before the link expires. */
export const PresignedUpload = z
  .object({
    id: Id("upload", examples.upload).meta({
      description: "The id of the file. Use it once its bytes are in storage.",
    }),
    url: z.string().meta({
      description: "Send the unchanged file to this URL.",
      examples: ["https://files.example.com/client/voice_sample/file?X-Amz-Signature=0f1e"],
    }),
    method: z.literal("PUT"),
    headers: z.record(z.string(), z.string()).meta({
      description: "Send exactly these headers, and the `Content-Length` that every HTTP client adds.",
      examples: [
        { "Content-Type": "audio/wav", "x-amz-checksum-sha256": "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=" },
      ],
    }),
    expiresAt: Timestamp.meta({
      description: "When the link expires: after 15 minutes.",
      examples: [examples.instant],
    }),
  })
  .meta({ id: "PresignedUpload" });
export type PresignedUpload = z.output<typeof PresignedUpload>;
