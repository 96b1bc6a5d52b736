/** Something about this machine that its owner can put right: entry points print the message and nothing else. */
export class SetupProblem extends Error {
  override name = "SetupProblem";
}
