/** What a bundler finds behind the entry for browsers. What it does there is in test/browser. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

test("the entry for browsers needs nothing of Node and nothing of the server", async () => {
  // Whatever this platform does not have, such as a module of Node, is an error.
  const { metafile } = await build({
    entryPoints: [fileURLToPath(new URL("browser.ts", import.meta.url))],
    bundle: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "browser",
  });
  const packages = Object.keys(metafile.inputs).flatMap(
    (path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? [],
  );
  assert.deepEqual([...new Set(packages)].sort(), [
    "@bufbuild/protobuf",
    "@bufbuild/protovalidate",
    "@connectrpc/connect",
    "@connectrpc/connect-web",
    "uuid",
  ]);
});
