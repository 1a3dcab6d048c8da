import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { dependencyProblems, type Lock, type LockedPackage, type Manifest } from "./dependency-rules.ts";

const DIGEST = `sha512-${"a".repeat(86)}==`;
const good: LockedPackage = { version: "1.2.3", integrity: DIGEST, license: "MIT" };
const manifest: Manifest = {
  dependencies: { left: "1.2.3" },
  peerDependencies: { right: "*" },
  peerDependenciesMeta: { right: { optional: true } },
};

/** With one package, which differs from a good one. */
function problemsWith(change: Partial<LockedPackage>, changed: Manifest = {}): string[] {
  const lock: Lock = { "": { dependencies: { left: "1.2.3" } }, "node_modules/left": { ...good, ...change } };
  return dependencyProblems({ ...manifest, ...changed }, lock, () => true);
}

describe("S-INJ-10 dependencies", () => {
  test("S-INJ-10 a pinned package with a digest and a licence is as it must be", () => {
    assert.deepEqual(problemsWith({}), []);
  });

  test("S-INJ-10 a version that is not one version is refused", () => {
    for (const version of [
      "^1.2.3",
      "~1.2.3",
      "1.x",
      "*",
      "latest",
      "npm:other@1.2.3",
      "git+https://example.com/left.git",
    ]) {
      const [problem] = problemsWith({}, { dependencies: { left: version } });
      assert.equal(problem, `package.json: left is not pinned to one version (${version})`);
    }
    for (const kind of ["devDependencies", "optionalDependencies"]) {
      assert.match(problemsWith({}, { [kind]: { tool: ">=2" } })[0]!, /tool is not pinned/);
    }
  });

  test("S-INJ-10 a lock file that is not that of package.json is refused", () => {
    const problem = "package-lock.json: left is not as package.json says";
    assert.deepEqual(problemsWith({}, { dependencies: { left: "1.2.4" } }), [problem]);
    assert.deepEqual(problemsWith({}, { dependencies: {} }), [problem]);
  });

  test("S-INJ-10 a package without a digest, or with a weak one, is refused", () => {
    assert.deepEqual(problemsWith({ integrity: undefined }), ["node_modules/left: has no digest"]);
    for (const integrity of ["", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", DIGEST.slice(0, -3), `${DIGEST} ${DIGEST}`]) {
      assert.deepEqual(problemsWith({ integrity }), ["node_modules/left: has no SHA-512 digest"]);
    }
  });

  test("S-INJ-10 only development tools of other platforms may lack a digest", () => {
    const foreign = { integrity: undefined, dev: true, optional: true, os: ["win32"] };
    assert.deepEqual(problemsWith(foreign), []);
    for (const missing of [{ dev: undefined }, { optional: undefined }, { os: undefined }]) {
      assert.deepEqual(problemsWith({ ...foreign, ...missing }), ["node_modules/left: has no digest"]);
    }
  });

  test("S-INJ-10 what does not come from a registry is refused", () => {
    for (const change of [{ link: true }, { version: "git+ssh://x" }, { version: undefined }]) {
      assert.deepEqual(problemsWith(change), ["node_modules/left: does not come from a registry"]);
    }
    for (const resolved of ["https://example.com/left.tgz", "git+https://example.com/left.git", "file:../left.tgz"]) {
      assert.deepEqual(problemsWith({ resolved }), ["node_modules/left: comes from elsewhere"]);
    }
  });

  test("S-INJ-10 licences that are not on the list are refused", () => {
    for (const license of ["MIT", "MIT OR GPL-3.0-only", "(Apache-2.0 AND BSD-3-Clause)"]) {
      assert.deepEqual(problemsWith({ license }), []);
    }
    for (const license of [
      "GPL-3.0-only",
      "MIT AND GPL-3.0-only",
      "SEE LICENSE IN LICENSE",
      "UNLICENSED",
      "",
      "(MIT OR X) AND (Y)",
    ]) {
      assert.deepEqual(problemsWith({ license }), [`node_modules/left: has the licence ${license}`]);
    }
    assert.deepEqual(problemsWith({ license: undefined }), ["node_modules/left: names no licence"]);
  });

  test("S-INJ-10 an install script must be approved, and an approval must be needed", () => {
    const unapproved = "node_modules/left: has an install script that allowScripts of package.json does not approve";
    assert.deepEqual(problemsWith({ hasInstallScript: true }), [unapproved]);
    assert.deepEqual(problemsWith({ hasInstallScript: true }, { allowScripts: { left: false } }), [unapproved]);
    assert.deepEqual(problemsWith({ hasInstallScript: true }, { allowScripts: { left: true } }), []);
    assert.deepEqual(problemsWith({}, { allowScripts: { left: true } }), [
      "package.json: allowScripts approves left, which has no install script",
    ]);
  });

  test("S-INJ-10 the script of a package that is inside of another one must be approved, unless it is not installed", () => {
    const folder = "node_modules/@a/b/node_modules/@c/d";
    const lock: Lock = { "": { dependencies: {} }, [folder]: { ...good, hasInstallScript: true } };
    assert.equal(dependencyProblems({}, lock, (path) => path === folder).length, 1);
    assert.deepEqual(
      dependencyProblems({ allowScripts: { "@c/d": true } }, lock, () => true),
      [],
    );
    assert.deepEqual(
      dependencyProblems({}, lock, () => false),
      [],
    );
  });

  test("S-INJ-10 a peer that is not optional is refused", () => {
    assert.deepEqual(problemsWith({}, { peerDependenciesMeta: {} }), ["package.json: the peer right is not optional"]);
  });
});
