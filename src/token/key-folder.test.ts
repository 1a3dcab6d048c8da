import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import type { Host } from "../cli/host.ts";
import { createProgram } from "../cli/program.ts";
import { connectService } from "../client/service-client.ts";
import { Code, reasonOf, StartupError } from "../errors.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { services } from "../services.ts";
import { startTestSystem } from "../testing/system.ts";
import { addCaller, initKeys, OPERATOR, readServiceKeys, readSigningKeys, readTokenKeys } from "./key-folder.ts";
import { calleesOf, pairsOf } from "./key-making.ts";

/** A folder's name in which nothing is yet, and in the end nothing again. */
async function temporaryFolder() {
  const parent = await mkdtemp(join(tmpdir(), "concierge-keys-"));
  const folder = join(parent, "deep", "keys");
  return { folder, [Symbol.asyncDispose]: () => rm(parent, { recursive: true, force: true }) };
}

async function contents(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder)).toSorted();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  return Object.fromEntries(names.map((name, index) => [name, texts[index]!]));
}

const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);

describe("the folder of keys", () => {
  test("init makes a key for each pair of the contract, the operator's keys, and the signing keys", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    const written = await initKeys(folder, services, "ES256");
    assert.deepEqual(written, Object.keys(await contents(folder)));

    const wanted = [
      ...pairsOf(services).map(({ caller, callee }) => `service ${caller} ${callee}`),
      ...calleesOf(services).map(({ name }) => `operator ${OPERATOR} ${name}`),
    ];
    const parties = [...services.map(({ name }) => name), OPERATOR];
    const inFiles = new Map<string, { party: string; secret: string }[]>();
    for (const party of parties) {
      for (const { kind, caller, callee, secret } of await readServiceKeys(folder, party)) {
        const name = `${kind} ${caller} ${callee}`;
        inFiles.set(name, [...(inFiles.get(name) ?? []), { party, secret }]);
      }
    }
    assert.deepEqual([...inFiles.keys()].toSorted(), wanted.toSorted());
    for (const [name, places] of inFiles) {
      const [, caller, callee] = name.split(" ");
      assert.deepEqual(places.map(({ party }) => party).toSorted(), [caller, callee].toSorted(), name);
      assert.equal(new Set(places.map(({ secret }) => secret)).size, 1, name);
    }
    const secrets = [...inFiles.values()].map(([place]) => place!.secret);
    assert.equal(new Set(secrets).size, secrets.length, "two pairs share a secret");
    assert.equal((await readSigningKeys(folder)).keys.length, 1);
    assert.equal((await readTokenKeys(folder)).keys.length, 1);
  });

  test("the folder and its files are the owner's alone", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    await initKeys(folder, services, "ES256");
    assert.equal(await modeOf(folder), "700");
    for (const name of await readdir(folder)) assert.equal(await modeOf(join(folder, name)), "600", name);

    // Neither a file that was opened to all nor a leftover of a broken run lets anybody read what is written next.
    await chmod(join(folder, "auth.json"), 0o644);
    await writeFile(join(folder, "shop.json.new"), "", { mode: 0o666 });
    await addCaller(folder, "shop", "auth");
    for (const name of ["auth.json", "shop.json"]) assert.equal(await modeOf(join(folder, name)), "600", name);
    assert.ok(!(await readdir(folder)).some((name) => name.endsWith(".new")));
  });

  test("init again changes nothing", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    await initKeys(folder, services, "ES256");
    const before = await contents(folder);
    assert.deepEqual(await initKeys(folder, services, "ES256"), []);
    assert.deepEqual(await initKeys(folder, services, "RS256"), [], "another algorithm does not replace keys");
    assert.deepEqual(await contents(folder), before);
  });

  test("init adds what is missing and nothing else", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    await initKeys(folder, services, "ES256");
    await addCaller(folder, "shop", "auth");
    const before = await contents(folder);
    await rm(join(folder, "greeter.json"));

    assert.deepEqual(await initKeys(folder, services, "ES256"), ["auth.json", "greeter.json"]);
    const after = await contents(folder);
    for (const name of Object.keys(before).filter((file) => !["auth.json", "greeter.json"].includes(file))) {
      assert.equal(after[name], before[name], name);
    }
    const [newest] = await readServiceKeys(folder, "greeter");
    const ofAuth = await readServiceKeys(folder, "auth");
    assert.deepEqual(ofAuth[0], newest, "the new key stands first");
    assert.deepEqual(ofAuth.slice(1), JSON.parse(before["auth.json"]!).keys, "all older ones are still there");
  });

  test("a run that breaks off leaves no caller with a key that its callee does not know", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    await initKeys(folder, services, "ES256");
    await addCaller(folder, "shop", "auth");
    const before = await contents(folder);
    await mkdir(join(folder, "auth.json.new"));
    await assert.rejects(addCaller(folder, "shop", "auth"));
    await rm(join(folder, "auth.json.new"), { recursive: true });
    assert.deepEqual(await contents(folder), before);
  });

  test("a file that cannot be read stops the run without a word of it", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    await initKeys(folder, services, "ES256");
    const text = await readFile(join(folder, "auth.json"), "utf8");
    const secret = (await readServiceKeys(folder, "auth"))[0]!.secret;
    await writeFile(join(folder, "auth.json"), text.slice(0, -20));
    await assert.rejects(initKeys(folder, services, "ES256"), (error) => {
      assert.ok(error instanceof StartupError);
      assert.match(error.message, /auth\.json is not valid JSON/);
      assert.ok(!`${error.stack}${JSON.stringify(error)}`.includes(secret.slice(0, 10)));
      return true;
    });
  });

  test("a caller that was added can call, as far as backends may", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    await initKeys(folder, services, "ES256");
    assert.deepEqual((await addCaller(folder, "shop", "access")).toSorted(), ["access.json", "shop.json"]);
    const [ofCaller, ...others] = await readServiceKeys(folder, "shop");
    const ofCallee = (await readServiceKeys(folder, "access")).filter(({ caller }) => caller === "shop");
    assert.deepEqual([ofCaller, ...others], ofCallee);
    assert.equal(ofCaller!.kind, "backend");

    await using system = await startTestSystem({ definitions: [auth, access], extraKeys: ofCallee });
    using shop = connectService({ baseUrl: system.internalUrl, key: ofCaller!, clock: system.clock });
    const { role } = await shop.client(AccessInternalService).createRole({ name: "seller" });
    assert.equal(role?.name, "seller");
    const elsewhere = shop.client(AuthInternalService).getAccount({ userId: crypto.randomUUID() });
    await assert.rejects(elsewhere, (error) => {
      assert.equal((error as { code?: Code }).code, Code.Unauthenticated, "its key is for access only");
      assert.equal(reasonOf(error), "UNAUTHENTICATED");
      return true;
    });
  });
});

describe("concierge keys", () => {
  test("says which files it wrote, and no part of a secret", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    const { output, run } = commandLine();
    await run("keys", "init", "--keys", folder);
    await run("keys", "add-caller", "shop", "--to", "auth", "--keys", folder);
    await run("keys", "init", "--keys", folder);
    assert.match(output(), /wrote .*auth-signing\.json.*\nwrote .*shop\.json.*\nnothing was missing/);
    for (const [name, text] of Object.entries(await contents(folder))) {
      const { keys } = JSON.parse(text) as { keys: { secret?: string; d?: string; kid: string }[] };
      for (const { secret, d } of keys) assert.ok(!output().includes((secret ?? d)!.slice(0, 12)), name);
    }
  });

  test("refuses names that are ours, names that are none, and callees that take no calls", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    const { run } = commandLine();
    await run("keys", "init", "--keys", folder);
    const before = await contents(folder);
    for (const name of ["auth", "operator", "Shop", "../shop", "auth-signing/..", "s", "shop.json", "", "a b"]) {
      await assert.rejects(run("keys", "add-caller", name, "--to", "auth", "--keys", folder), StartupError, name);
    }
    for (const callee of ["greeter", "nobody", "../auth"]) {
      await assert.rejects(run("keys", "add-caller", "shop", "--to", callee, "--keys", folder), StartupError, callee);
    }
    await assert.rejects(run("keys", "init", "--algorithm", "HS256", "--keys", folder), StartupError);
    assert.deepEqual(await contents(folder), before);
  });

  test("refuses the name of the file of signing keys", async () => {
    await using temporary = await temporaryFolder();
    const { folder } = temporary;
    const { run } = commandLine();
    await run("keys", "init", "--keys", folder);
    const before = await contents(folder);
    await assert.rejects(run("keys", "add-caller", "auth-signing", "--to", "auth", "--keys", folder), StartupError);
    assert.deepEqual(await contents(folder), before);
  });
});

/** The command line in this process, with what it prints. */
function commandLine() {
  const printed: string[] = [];
  const host: Host = {
    env: {},
    node: process.execPath,
    mainFile: "",
    print: (text) => void printed.push(text),
    warn: (text) => void printed.push(text),
    residentBytes: () => 0,
    stop: new AbortController().signal,
    inputEnded: () => Promise.withResolvers<void>().promise,
  };
  return {
    output: () => printed.join(""),
    run: async (...args: string[]) => void (await createProgram(host).parseAsync(["node", "concierge", ...args])),
  };
}
