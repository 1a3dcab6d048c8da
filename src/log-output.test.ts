import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StringDecoder } from "node:string_decoder";
import { after, before, describe, test } from "node:test";
import { openLogOutput } from "./log-output.ts";
import { auth } from "./services/auth/service.ts";
import { freePort, MAIN_FILE } from "./testing/command.ts";
import { type TestEnvironment, testEnvironment } from "./testing/environment.ts";
import { until } from "./testing/until.ts";

const MEGABYTE = 1024 * 1024;
/** A pipe takes 64 KiB, and a line has more than 200 bytes. */
const CALLS_TO_FILL_A_PIPE = 400;
const AT_ONCE = 50;

/** A pipe with a name: `fd` is both of its ends, so it is read only when a test reads it. */
function openPipe(folder: string, flags = 0) {
  const path = join(folder, crypto.randomUUID());
  execFileSync("mkfifo", [path]);
  const fd = openSync(path, constants.O_RDWR | flags);
  // Without waiting, whatever the other ends do.
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const buffer = Buffer.alloc(MEGABYTE);
  const decoder = new StringDecoder("utf8");
  return {
    fd,
    /** What is in it now. */
    read(): string {
      try {
        return decoder.write(buffer.subarray(0, readSync(reader, buffer)));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "EAGAIN");
        return "";
      }
    },
    [Symbol.dispose]() {
      closeSync(reader);
      closeSync(fd);
    },
  };
}

describe("R-RES-02 log lines that cannot be written", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "concierge-log-output-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  test("wait while nobody reads, are dropped beyond a bound, and go on whole and in order", async () => {
    using pipe = openPipe(folder, constants.O_NONBLOCK);
    const output = openLogOutput(pipe.fd);
    const lines = Array.from({ length: 3_000 }, (_, number) => `${number} ${"é".repeat(500)}\n`);
    for (const line of lines) output.write(line);
    const dropped = output.dropped();
    assert.ok(dropped > 500 && dropped < 2_500, `${dropped} were dropped`);
    let text = "";
    const kept = lines.slice(0, lines.length - dropped).join("");
    await until("what waited is there", () => {
      text += pipe.read();
      return text.length === kept.length;
    });
    assert.equal(text, kept);
    output.write("later\n");
    await until("the next one is there", () => pipe.read() === "later\n");
    assert.equal(output.dropped(), dropped);
    await output[Symbol.asyncDispose]();
  });

  test("on a full disk are dropped and counted, and nothing is thrown", async () => {
    const full = openSync("/dev/full", "w");
    const output = openLogOutput(full);
    for (let line = 0; line < 3 * MEGABYTE; line += 100_000) output.write(`${"x".repeat(99_999)}\n`);
    assert.ok(output.dropped() >= 20, `${output.dropped()} were dropped`);
    await output[Symbol.asyncDispose]();
    closeSync(full);
  });

  test("that wait are written at the end", async () => {
    const file = join(folder, "log");
    const fd = openSync(file, "w");
    const output = openLogOutput(fd);
    for (let line = 0; line < 1_000; line++) output.write(`${line}\n`);
    await output[Symbol.asyncDispose]();
    closeSync(fd);
    assert.equal(readFileSync(file, "utf8").trim().split("\n").length, 1_000);
  });
});

describe("R-RES-02 a server whose log nobody reads", () => {
  let folder: string;
  let environment: TestEnvironment;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "concierge-log-output-"));
    environment = await testEnvironment([auth]);
  });
  after(async () => {
    await environment[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  test("ends after a fault, although nobody reads what is said of it", async () => {
    using pipe = openPipe(folder, constants.O_NONBLOCK);
    const fill = () => {
      for (;;) writeSync(pipe.fd, "x".repeat(4_096));
    };
    assert.throws(fill, { code: "EAGAIN" });
    const [publicPort, internalPort] = [await freePort(), await freePort()];
    const ports = { CONCIERGE_PUBLIC_PORT: `${publicPort}`, CONCIERGE_INTERNAL_PORT: `${internalPort}` };
    const fault = 'data:text/javascript,process.once("SIGUSR2", () => { throw new Error("a fault") })';
    const child = spawn(process.execPath, ["--import", fault, MAIN_FILE, "serve", "auth"], {
      env: { PATH: process.env.PATH, ...environment.variables, ...ports },
      stdio: ["ignore", pipe.fd, pipe.fd],
    });
    const ended = once(child, "exit");
    try {
      const isAlive = () =>
        fetch(`http://127.0.0.1:${internalPort}/healthz`).then(
          ({ ok }) => ok,
          () => false,
        );
      await until("it listens", isAlive);
      child.kill("SIGUSR2");
      assert.deepEqual(await ended, [1, null]);
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  });

  test("answers calls, logs all of them once it is read, and stops in order", async () => {
    using pipe = openPipe(folder);
    const [publicPort, internalPort] = [await freePort(), await freePort()];
    const ports = { CONCIERGE_PUBLIC_PORT: `${publicPort}`, CONCIERGE_INTERNAL_PORT: `${internalPort}` };
    const child = spawn(process.execPath, [MAIN_FILE, "serve", "auth"], {
      env: { PATH: process.env.PATH, ...environment.variables, ...ports },
      stdio: ["ignore", pipe.fd, pipe.fd],
    });
    const ended = once(child, "exit");
    try {
      const metrics = async () => (await fetch(`http://127.0.0.1:${internalPort}/metrics`)).text();
      await until("it listens", async () => /^log_lines_dropped_total 0$/m.test(await metrics().catch(() => "")));
      const signal = AbortSignal.timeout(20_000);
      const call = async () => (await fetch(`http://127.0.0.1:${publicPort}/nothing`, { signal })).status;
      const fill = async () => {
        for (let made = 0; made < CALLS_TO_FILL_A_PIPE; made += AT_ONCE) {
          await Promise.all(Array.from({ length: AT_ONCE }, async () => assert.equal(await call(), 404)));
        }
      };
      await fill();
      let lines = 0;
      await until("every call is logged", () => {
        lines += pipe.read().match(/"msg":"call"/g)?.length ?? 0;
        return lines === CALLS_TO_FILL_A_PIPE;
      });
      await fill();
      child.kill("SIGTERM");
      assert.deepEqual(await ended, [0, null]);
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  });
});
