/** Checked before anything else is loaded: newer syntax would fail in an old Node with an unclear error. */
const minNode = 22;

if (Number(process.versions.node.split(".")[0]) < minNode) {
  console.error(
    `Patchbay needs Node ${minNode} or newer; this is ${process.versions.node}. Start it with npm, which brings its own.`,
  );
  process.exit(1);
}
