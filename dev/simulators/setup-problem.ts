/** A problem that the machine's user can solve. Entry points print the message without a stack. */
export class SetupProblem extends Error {
  override name = "SetupProblem";
}
