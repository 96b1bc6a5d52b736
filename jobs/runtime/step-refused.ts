/** Thrown by a step that no retry would help: its run has failed. */
export class StepRefused extends Error {}
