import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { createdFilter } from "../core/list-filters.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { type WorkflowName, workflowNames } from "./service.ts";

const names = Object.keys(workflowNames) as [WorkflowName, ...WorkflowName[]];
const runStatuses = ["running", "succeeded", "failed"] as const;

export const WorkflowId = z.strictObject({ id: Id("workflow", examples.workflow) });

export const ListWorkflows = z.strictObject({
  ...PageInput,
  status: z
    .enum(runStatuses)
    .optional()
    .meta({ examples: ["failed"] }),
  name: z
    .enum(names)
    .optional()
    .meta({ examples: ["voice-clone-native"] }),
  clientId: Id("client", examples.client).optional(),
  subjectId: z
    .string()
    .max(64)
    .optional()
    .meta({ examples: [examples.voice] }),
  ...createdFilter,
});
export type ListWorkflows = z.output<typeof ListWorkflows>;

export const Workflow = z
  .object({
    id: Id("workflow", examples.workflow),
    clientId: Id("client", examples.client),
    name: z.string().meta({ examples: ["voice-clone-native"] }),
    subjectId: z.string().meta({ examples: [examples.voice] }),
    status: z.enum(runStatuses).meta({ examples: ["running"] }),
    steps: z.array(
      z.object({
        name: z.string().meta({ examples: ["train"] }),
        status: z.enum(["waiting", "running", "done", "failed"]).meta({ examples: ["running"] }),
        attempts: z.int().meta({ examples: [1] }),
        error: z
          .string()
          .nullable()
          .meta({ examples: [null] }),
        nextAt: Timestamp.nullable(),
        startedAt: Timestamp.nullable(),
        finishedAt: Timestamp.nullable(),
      }),
    ),
    createdAt: Timestamp,
    finishedAt: Timestamp.nullable(),
  })
  .meta({ id: "Workflow" });
export type Workflow = z.output<typeof Workflow>;
export const WorkflowPage = pageOf(Workflow);
