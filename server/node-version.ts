/** Looked at before anything else is loaded: what is newer than an old Node would break in words of its own. */
const lowestNode = 22;

if (Number(process.versions.node.split(".")[0]) < lowestNode) {
  console.error(
    `Patchbay needs Node ${lowestNode} or newer; this is ${process.versions.node}. Start it with npm, which brings its own.`,
  );
  process.exit(1);
}
