/** What a step throws that will not become better by trying again: its run has failed. */
export class StepRefused extends Error {}
