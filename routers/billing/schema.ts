import { z } from "zod";
import { accountNames } from "../../db/schema/billing.ts";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";

const Micros = z.int().meta({ description: "Millionths of a credit.", examples: [250000000] });

export const Balance = z.object({ availableMicros: Micros, heldMicros: Micros }).meta({
  id: "Balance",
  description: "`available` can be spent. `held` is reserved for running calls and trainings.",
});

export const CurrentPrice = z
  .object({
    id: Id("price", examples.price).meta({ description: "The `priceId` of ledger transactions." }),
    creditUsdMicros: z
      .int()
      .meta({ description: "The price of one credit, in millionths of a US dollar.", examples: [10000] }),
    callMicrosPerMinute: Micros.meta({
      description: "For the conversation, in millionths of a credit.",
      examples: [9000000],
    }),
    telephoneMicrosPerMinute: Micros.meta({
      description: "For the telephone line, in addition to the conversation.",
      examples: [1500000],
    }),
    voiceCloneMicros: Micros.meta({ description: "For one voice trained from samples.", examples: [50000000] }),
    roundingSeconds: z.int().meta({ description: "Durations are rounded up to a multiple of this.", examples: [6] }),
    effectiveFrom: Timestamp,
  })
  .meta({ id: "CurrentPrice" });
export type CurrentPrice = z.output<typeof CurrentPrice>;

export const ListLedger = z.strictObject({
  ...PageInput,
  subjectId: z
    .string()
    .max(64)
    .optional()
    .meta({ description: "Only transactions of this call or voice.", examples: [examples.call] }),
});
export type ListLedger = z.output<typeof ListLedger>;

export const LedgerTransaction = z
  .object({
    id: Id("transaction", examples.transaction),
    kind: z
      .enum(["grant", "purchase", "hold", "settlement", "release", "adjustment"])
      .meta({ examples: ["settlement"] }),
    sourceId: z.string().meta({
      description: "Unique together with `kind`, so that nothing is posted twice.",
      examples: [`${examples.call}:1`],
    }),
    subjectId: z
      .string()
      .nullable()
      .meta({ examples: [examples.call] }),
    priceId: z
      .string()
      .nullable()
      .meta({ description: "The price that was used.", examples: ["price_01m82k0000f8a8r8h7jz3c9q5d"] }),
    memo: z.string().nullable(),
    entries: z
      .array(z.object({ account: z.enum(accountNames), amountMicros: Micros }))
      .meta({ description: "Sums to zero." }),
    createdAt: Timestamp,
  })
  .meta({ id: "LedgerTransaction" });
export type LedgerTransaction = z.output<typeof LedgerTransaction>;
export const LedgerPage = pageOf(LedgerTransaction);
