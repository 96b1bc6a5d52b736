import { type BatcherOptions, createBatcher as createAnyBatcher } from "../../routers/core/batcher.ts";
import { causeKindOf } from "./set-apart.ts";

/** An error that one row causes, and that would fail every batch with it. Other errors would fail each row alone. */
export const isRowError = (error: unknown): boolean => causeKindOf(error) === "row";

/** Batches the database work of jobs. */
export const createBatcher = <I, O>(options: Omit<BatcherOptions<I, O>, "isItemError">) =>
  createAnyBatcher({ ...options, isItemError: isRowError });
