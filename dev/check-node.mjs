// Plain JavaScript, so that an old Node can run it and print the message.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 2)) {
  console.error(
    `Patchbay needs Node 24.2 or newer to run from its sources; this is ${process.versions.node}. npm brings one for Linux and Windows (run \`npm ci\`); elsewhere install it.`,
  );
  process.exit(1);
}
