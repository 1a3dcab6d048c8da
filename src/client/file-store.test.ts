/** A session's file: what it holds after damage, and whose turn it is. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileStore } from "./file-store.ts";

describe("a session's file", () => {
  let folder: string;
  let path: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "concierge-session-"));
    path = join(folder, "session.json");
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  test("holds what was written last, for its owner only, and nothing else stays in the folder", async () => {
    const store = fileStore(path);
    assert.deepEqual(await store.read(), { deviceToken: undefined, session: undefined });
    await store.write({ deviceToken: "first" });
    await store.exclusively(() => store.write({ deviceToken: "second" }));
    assert.equal((await fileStore(path).read()).deviceToken, "second");
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(folder), ["session.json"]);
  });

  test("holds nothing where it was damaged or written by something else", async () => {
    for (const text of ["", "{", "null", '"text"', '{"deviceToken":1,"session":{"userId":"x"}}']) {
      await writeFile(path, text);
      const { deviceToken, session } = await fileStore(path).read();
      assert.deepEqual([deviceToken, session], [undefined, undefined], text);
    }
  });

  test("gives one turn at a time, also after work that failed", async () => {
    let working = 0;
    const work = async () => {
      working += 1;
      assert.equal(working, 1);
      await nextTurn();
      working -= 1;
    };
    await assert.rejects(
      fileStore(path).exclusively(() => Promise.reject(new Error("no luck"))),
      /no luck/,
    );
    await Promise.all(Array.from({ length: 10 }, () => fileStore(path).exclusively(work)));
  });

  test("gives the turn of a process that died to the next one", async () => {
    await writeFile(`${path}.lock`, "");
    assert.equal(await fileStore(path, { abandonedMs: 60 }).exclusively(async () => "mine"), "mine");
    assert.deepEqual(await readdir(folder), []);
  });

  test("leaves the turn of whoever took it over alone", async () => {
    await fileStore(path).exclusively(async () => {
      await rm(`${path}.lock`);
      await writeFile(`${path}.lock`, "another one's");
    });
    assert.deepEqual(await readdir(folder), ["session.json.lock"]);
  });
});
