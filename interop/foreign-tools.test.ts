/**
 * Tools that are not ours find everything by reflection alone and can call it: each method of both listeners, over each
 * protocol, in a development system as `make start` runs it. What there is to call is not listed here but asked of the
 * server, so a new method is called, too.
 */
import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  createFileRegistry,
  type DescField,
  type DescMessage,
  type DescMethod,
  type FileRegistry,
  fromBinary,
  fromJson,
  getOption,
  hasOption,
  type JsonObject,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { FeedInternalService } from "../gen/concierge/feed/v1/feed_service_pb.ts";
import { access } from "../gen/concierge/options/v1/access_pb.ts";
import { readRunningNote } from "../src/cli/development.ts";
import { keyFor } from "../src/cli/internal-calls.ts";
import { systemClock } from "../src/clock.ts";
import { sideOf } from "../src/rpc/access.ts";
import { services } from "../src/services.ts";
import { type RunningCommand, runHere, startCommand } from "../src/testing/command.ts";
import { OPERATOR } from "../src/token/key-folder.ts";
import { messageDigest, signServiceToken } from "../src/token/service-token.ts";
import { bufMethods, grpcurl, lines, type Outcome, tools } from "./tools.ts";

const OPEN = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
];
/** Whose feed is read. */
const FEED = "auth";
const HEALTH = "grpc.health.v1.Health";
/** Streams that do not end by themselves, and what is in their first message. */
const ENDLESS = new Map([
  [`${HEALTH}/Watch`, "SERVING"],
  ["concierge.notification.v1.NotificationService/WatchMyNotifications", "cursor"],
]);
/** What a method may say of a message that it has understood, and a caller whom it has let in. */
const ANSWERS_OF_METHODS = [
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.FailedPrecondition,
  Code.Aborted,
];
/** What it may say of a person's own doing: a token that was used, a password that is wrong, somebody who is no artist. */
const REASONS_OF_METHODS = ["BAD_CREDENTIALS", "NOT_AN_ARTIST"];
const USES_UP = "concierge.auth.v1.AuthService/RefreshToken";
/** Called for somebody who does not exist, and in no organization: the demo account and its own are needed for the others. */
const ENDING = [
  ...["EndSession", "EndUserSessions", "DisableAccount", "DeleteAccount", "SendPasswordReset"],
  ...["DeleteOrganization", "ReleaseUser"],
];

type Tokens = Record<"userId" | "sessionId" | "accessToken" | "refreshToken", string>;

describe("foreign tools", () => {
  let folder: string;
  let dev: RunningCommand;
  let urls: Record<"public" | "internal", string>;
  let accessToken: string;
  /** Of the same session, but it names no organization. */
  let homelessToken: string;
  /** What to put into a field of this name, in any message. */
  let values: JsonObject;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "concierge-interop-"));
    // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
    await chmod(folder, 0o755);
    dev = startCommand(["dev", "--folder", folder], { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" });
    await dev.printed(/Ctrl-C stops it/);
    const { publicUrl, internalUrl, demoAccount } = await readRunningNote(folder);
    urls = { public: publicUrl, internal: internalUrl };
    const session = await logIn(demoAccount);
    homelessToken = session.accessToken;
    const organizationId = await createOrganization(homelessToken);
    const refresh = { refreshToken: session.refreshToken, organizationId };
    accessToken = (await ask<Tokens>("concierge.auth.v1.AuthService/RefreshToken", refresh)).accessToken;
    const text = `Hello ${crypto.randomUUID()}`;
    values = {
      ...demoAccount,
      ...{ userId: session.userId, userIds: [session.userId], sessionId: session.sessionId },
      ...{ refreshToken: (await logIn(demoAccount)).refreshToken },
      ...{ name: "ann", count: 2, role: "ann", token: accessToken, accessToken },
      ...{ organizationId, plan: "pro", permission: "branches:read" },
      ...{ branchId: crypto.randomUUID(), invitationId: crypto.randomUUID() },
      ...{ title: "Hello", text, limit: 1, notificationId: crypto.randomUUID(), listServices: "" },
    };
  });

  after(async () => {
    dev.kill("SIGTERM");
    await dev.ended();
    await dev[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  async function ask<Answer>(method: string, message: object, headers: string[] = []): Promise<Answer> {
    const { answer, error } = await tools[0]!.call({ url: urls.public, method, message, headers });
    assert.equal(error, undefined);
    return JSON.parse(answer) as Answer;
  }

  function logIn(account: object): Promise<Tokens> {
    return ask("concierge.auth.v1.AuthService/Login", account);
  }

  async function createOrganization(token: string): Promise<string> {
    const method = "concierge.organization.v1.OrganizationService/CreateOrganization";
    const message = { name: "Bakery", slug: "bakery" };
    type Made = { organization: { organizationId: string } };
    return (await ask<Made>(method, message, [`authorization: Bearer ${token}`])).organization.organizationId;
  }

  /** What the server's log says of calls that failed by its own fault. */
  async function faults(): Promise<string[]> {
    return lines(await readFile(join(folder, "concierge.log"), "utf8")).filter((line) => line.includes("call failed"));
  }

  /** All that a listener's reflection tells, as grpcurl got it. */
  async function reflected(side: "public" | "internal"): Promise<FileRegistry> {
    const file = join(folder, `${side}.binpb`);
    await grpcurl(urls[side], ["describe"], ["-protoset-out", file]);
    return createFileRegistry(fromBinary(FileDescriptorSetSchema, await readFile(file)));
  }

  async function methodsOf(side: "public" | "internal"): Promise<DescMethod[]> {
    const registry = await reflected(side);
    const names = lines(await grpcurl(urls[side], ["list"]));
    return names.flatMap((name) => registry.getService(name)!.methods);
  }

  /** A message with a value in each field whose name has one, and in each that has a list of them. */
  function messageFor({ fields, file }: DescMessage, values: JsonObject): JsonObject {
    const known = fields.filter(({ fieldKind, jsonName }) => fieldKind === "enum" || jsonName in values);
    const chosen = (field: DescField) =>
      field.fieldKind === "enum" ? field.enum.values[1]!.name : values[field.jsonName]!;
    const message = Object.fromEntries(known.map((field) => [field.jsonName, chosen(field)]));
    return file.name === FeedInternalService.file.name ? { ...message, service: FEED } : message;
  }

  /** The header that lets a call in: an operator's where they may call, else that of a service which may. */
  async function credentialFor(
    side: "public" | "internal",
    method: DescMethod,
    message: JsonObject,
  ): Promise<string[]> {
    if (side === "public")
      return [`authorization: Bearer ${ENDING.includes(method.name) ? homelessToken : accessToken}`];
    const rule = hasOption(method, access) ? getOption(method, access).who : undefined;
    if (rule?.case !== "callers") return [];
    const name = nameOf(method);
    if (method.parent.typeName === FeedInternalService.typeName) {
      // All feeds have one path: the token says whose is meant. An operator's needs no digest in development.
      const key = await keyFor(join(folder, "keys"), OPERATOR, FEED);
      return [`service-token: ${signServiceToken(key, `/${name}`, undefined, systemClock)}`];
    }
    if (rule.value.operators) {
      const { stdout } = await runHere(["token", "--for", name, "--folder", folder]);
      return [`service-token: ${stdout.trim()}`];
    }
    const callee = services.find((definition) =>
      definition.services.some(({ typeName }) => typeName === method.parent.typeName),
    );
    const key = await keyFor(join(folder, "keys"), rule.value.services[0]!, callee!.name);
    const digest = messageDigest(toBinary(method.input, fromJson(method.input, message)));
    return [`service-token: ${signServiceToken(key, `/${name}`, digest, systemClock)}`];
  }

  for (const side of ["public", "internal"] as const) {
    test(`${side}: grpcurl and buf curl list every service and method, and no others`, async () => {
      const all = [...services.flatMap((definition) => definition.services), FeedInternalService];
      const own = all.filter((desc) => sideOf(desc) === side);
      const expected = [...own.map(({ typeName }) => typeName), ...OPEN].sort();
      assert.deepEqual(lines(await grpcurl(urls[side], ["list"])).sort(), expected);
      const methods = (await methodsOf(side)).map(nameOf);
      for (const { typeName, methods: wanted } of own) {
        for (const { name } of wanted) assert.ok(methods.includes(`${typeName}/${name}`), name);
      }
      assert.deepEqual((await bufMethods(urls[side])).sort(), methods.sort());
    });

    test(`${side}: grpcurl describes every method and the messages it takes and gives`, async () => {
      const described = await grpcurl(urls[side], ["describe"]);
      const methods = await methodsOf(side);
      for (const { name, input, output } of methods) {
        assert.match(described, new RegExp(`rpc ${name} \\( (stream )?\\.${input.typeName} \\) returns`));
        for (const { typeName } of [input, output]) {
          assert.match(await grpcurl(urls[side], ["describe", typeName]), /is a message:/);
        }
      }
    });

    for (const tool of tools) {
      test(`${side}: ${tool.name} calls every method`, async (t) => {
        const failures: string[] = [];
        const methods = await methodsOf(side);
        let answered = 0;
        for (const method of methods) {
          const name = nameOf(method);
          const nobody = { userId: crypto.randomUUID(), sessionId: crypto.randomUUID() };
          const message = messageFor(method.input, ENDING.includes(method.name) ? { ...values, ...nobody } : values);
          const headers = await credentialFor(side, method, message);
          const limitSeconds = ENDLESS.has(name) ? 3 : undefined;
          const outcome = await tool.call({ url: urls[side], method: name, message, headers, limitSeconds });
          if (isAnswered(outcome, name)) answered += 1;
          else if (!isAnswerOfMethod(outcome, name)) failures.push(`${name}: ${outcome.error?.text}`);
          if (outcome.error) t.diagnostic(`${name}: ${Code[outcome.error.code]} ${outcome.error.reason ?? ""}`);
        }
        t.diagnostic(`${answered} of ${methods.length} methods answered, the others said why they would not`);
        assert.equal(failures.length, 0, [...failures, ...(await faults())].join("\n"));
        assert.ok(answered > methods.length / 2, `only ${answered} of ${methods.length} methods answered`);
      });

      test(`${side}: ${tool.name} finds it healthy, and not what is unknown`, async () => {
        const check = (service: string) =>
          tool.call({ url: urls[side], method: `${HEALTH}/Check`, message: { service }, headers: [] });
        assert.deepEqual(JSON.parse((await check("")).answer), { status: "SERVING" });
        const unknown = await check("concierge.nothing.v1.NothingService");
        assert.equal(unknown.error?.code, Code.NotFound);
      });
    }
  }

  test("grpcurl asks the internal listener for the health of each service", async () => {
    for (const { typeName } of services.flatMap((definition) => definition.services)) {
      const message = { service: typeName };
      const { answer } = await tools[0]!.call({ url: urls.internal, method: `${HEALTH}/Check`, message, headers: [] });
      assert.deepEqual(JSON.parse(answer), { status: "SERVING" }, typeName);
    }
  });
});

function nameOf({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

function isAnswered({ answer, error }: Outcome, name: string): boolean {
  const first = ENDLESS.get(name);
  if (first !== undefined && error?.code === Code.DeadlineExceeded) return answer.includes(first);
  return error === undefined && answer.trim() !== "";
}

function isAnswerOfMethod({ error }: Outcome, name: string): boolean {
  if (error?.reason === undefined || error.reason === "MALFORMED_MESSAGE") return false;
  if (name === USES_UP && error.code === Code.Unauthenticated) return true;
  if (name.endsWith("/DeleteOrganization") && error.reason === "NO_ORGANIZATION") return true;
  return REASONS_OF_METHODS.includes(error.reason) || ANSWERS_OF_METHODS.includes(error.code);
}
