/**
 * Worker: what people and a backend do with Concierge, at an even rate and whatever happens to its processes. All of it goes through the
 * client that other teams import, which may repeat what may be repeated; any error that comes out of it is a failed request. What
 * was acknowledged is written down, to be compared with the databases.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Client, ConnectError } from "@connectrpc/connect";
import { AccessInternalService, AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import {
  type AuthClient,
  Code,
  createAuthClient,
  createSession,
  type PermissionQuestion,
  reasonOf,
  type ServiceKey,
  type Session,
} from "../client/index.ts";
import { systemClock as clock } from "../clock.ts";
import { answerCommands } from "./workers.ts";

export interface LoadTask {
  publicUrl: string;
  internalUrls: { auth: string; access: string; organization: string; notification: string };
  /** A backend's. */
  keys: ServiceKey[];
  issuer: string;
  callsPerSecond: number;
}

/** What became of the calls since the last report. */
export interface Report {
  /** Calls by what they are. */
  calls: Record<string, number>;
  failures: Failure[];
  latenciesMs: number[];
  /** The longest that a call was sent late: the load's own share. */
  mostLateMs: number;
}

interface Failure {
  call: string;
  /** Milliseconds since 1970. */
  atMs: number;
  why: string;
}

/** What the databases must hold in the end. */
export interface Written {
  /** The last name that each person was told to have. */
  names: Record<string, string>;
  /** The last description of each organization's role. */
  roles: Record<string, string>;
  /** Names of branches, and texts of notifications, that were acknowledged: each once. */
  branches: string[];
  notifications: string[];
}

const PEOPLE = 24;
const WATCHERS = 6;
/** Who logs in and out, one time after the other. */
const VISITORS = 8;
const ROLE = "cashier";
const PASSWORD = "a rather long pass phrase for a load";
/** How a stream may end, as it is documented: who watches asks again. */
const STREAM_ENDS = new Set(["DRAINING", "TOKEN_EXPIRED"]);

type NotificationClient = Client<typeof NotificationInternalService>;

interface Person {
  session: Session;
  userId: string;
  organizationId: string;
  email: string;
  /** Of its writes one follows the other, so that the last acknowledged one is what must be there. */
  isWriting: boolean;
}

/** One kind of call; false if it has nothing to do just now. */
type Call = (person: Person, number: number) => Promise<unknown> | false;

let report = emptyReport();
const written: Written = { names: {}, roles: {}, branches: [], notifications: [] };
const ended = new AbortController();
const people: Person[] = [];
let client: AuthClient;
let running: Promise<unknown> = Promise.resolve();

answerCommands({
  async start(task: LoadTask): Promise<void> {
    client = createAuthClient({ url: task.internalUrls, keys: { keys: task.keys }, issuer: task.issuer });
    await client.ready;
    for (let index = 0; index < PEOPLE; index++) people.push(await settle(task.publicUrl, index));
    const visitors = await Promise.all(Array.from({ length: VISITORS }, () => createSession({ url: task.publicUrl })));
    const watching = people.slice(0, WATCHERS).map((person) => watch(person));
    running = Promise.all([callOn(callsOf(visitors), task.callsPerSecond), ...watching]);
  },
  /** What became of the calls since it was asked last. */
  report(): Report {
    const last = report;
    report = emptyReport();
    return last;
  },
  async stop(): Promise<Written> {
    ended.abort();
    await running;
    await client.close();
    return written;
  },
});

/** A person with an organization and a role in it. */
async function settle(url: string, index: number): Promise<Person> {
  const session = await createSession({ url });
  const email = `person-${index}@example.com`;
  const userId = await session.registerUser({
    email,
    password: PASSWORD,
    firstName: "Ann",
    lastName: "Lee",
    locale: "en",
  });
  await session.login({ email, password: PASSWORD });
  const { organization } = await session
    .service(OrganizationService)
    .createOrganization({ name: "Corner Bakery", slug: `bakery-${index}` });
  const { organizationId } = organization!;
  await session.switchOrganization(organizationId);
  await session.service(AccessService).createRole({ name: ROLE, permissions: ["branches:read"] });
  return { session, userId, organizationId, email, isWriting: false };
}

/** Every call, as often as it is made among all. */
function callsOf(visitors: Session[]): { name: string; call: Call }[] {
  const internal = {
    auth: client.service(AuthInternalService),
    access: client.service(AccessInternalService),
    notification: client.service(NotificationInternalService),
  };
  const kinds: [name: string, share: number, call: Call][] = [
    // Most of a backend's questions need nobody's answer: these two are decided in the client's memory, which feeds keep.
    ["authenticate", 30, async ({ session }) => client.authenticate(await session.accessToken())],
    ["decidePermission", 20, (who) => decide({ ...subjectOf(who), permission: "branches:read" })],
    ["SayHello", 5, ({ session }) => session.service(GreeterService).sayHello({ name: "Ann" })],
    ["GetMe", 7, ({ session }) => session.service(UserService).getMe({})],
    ["GetUser", 4, ({ session, userId }) => session.service(UserService).getUser({ userId })],
    ["ListMyNotifications", 5, ({ session }) => session.service(NotificationService).listMyNotifications({})],
    ["CountUnread", 3, ({ session }) => session.service(NotificationService).countUnread({})],
    ["GetMyPermissions", 5, ({ session }) => session.service(AccessService).getMyPermissions({})],
    ["ListBranches", 3, ({ session }) => session.service(OrganizationService).listBranches({})],
    ["VerifyToken", 5, async ({ session }) => internal.auth.verifyToken({ accessToken: await session.accessToken() })],
    [
      "CheckPermission",
      5,
      (who) => internal.access.checkPermission({ ...subjectOf(who), permission: "branches:read" }),
    ],
    ["GetAccount", 2, ({ userId }) => internal.auth.getAccount({ userId })],
    ["UpdateUser", 2, inTurn(rename)],
    ["UpdateRole", 1, inTurn(describeRole)],
    ["CreateBranch", 1, createBranch],
    ["CreateNotification", 1, (who, number) => notify(internal.notification, who, number)],
    ["Login and Logout", 1, (who, number) => visit(visitors[number % visitors.length]!, who)],
  ];
  const most = Math.max(...kinds.map(([, share]) => share));
  // Each spread over the round.
  return Array.from({ length: most }, (_, turn) => kinds.filter(([, share]) => share > turn))
    .flat()
    .map(([name, , call]) => ({ name, call }));
}

/** Its owner has it. */
async function decide(question: PermissionQuestion): Promise<void> {
  const decision = await client.decidePermission(question);
  if (decision !== "allowed") throw new Error(`the permission is ${decision}`);
}

function subjectOf({ userId, organizationId }: Person) {
  return { userId, organizationId };
}

/** Nothing to do while the person's last one of these is under way. */
function inTurn(write: Call): Call {
  return (person, number) => {
    if (person.isWriting) return false;
    person.isWriting = true;
    return (write(person, number) as Promise<unknown>).finally(() => {
      person.isWriting = false;
    });
  };
}

async function rename({ session, userId }: Person, number: number): Promise<void> {
  const firstName = `Ann ${number}`;
  await session.service(UserService).updateUser({ firstName, updateMask: { paths: ["first_name"] } });
  written.names[userId] = firstName;
}

async function describeRole({ session, organizationId }: Person, number: number): Promise<void> {
  const description = `as of call ${number}`;
  const change = { name: ROLE, description, updateMask: { paths: ["description"] } };
  await session.service(AccessService).updateRole(change);
  written.roles[organizationId] = description;
}

async function createBranch({ session }: Person, number: number): Promise<void> {
  const name = `branch ${number}`;
  await session.service(OrganizationService).createBranch({ name });
  written.branches.push(name);
}

async function notify(notifications: NotificationClient, { userId }: Person, number: number): Promise<void> {
  const text = `table ${number} is ready`;
  await notifications.createNotification({
    title: "Concierge",
    text,
    userIds: [userId],
    idempotencyKey: `call-${number}`,
  });
  written.notifications.push(text);
}

async function visit(visitor: Session, { email }: Person): Promise<void> {
  await visitor.login({ email, password: PASSWORD });
  const { isEnded } = await visitor.logout();
  if (!isEnded) throw new Error("the server could not be told of the logout");
}

/** Makes calls when they are due, whether earlier ones are answered or not, in turn as different people. */
async function callOn(calls: { name: string; call: Call }[], callsPerSecond: number): Promise<void> {
  const open = new Set<Promise<void>>();
  const startedAt = clock.monotonic();
  for (let number = 0; !ended.signal.aborted; number++) {
    const dueAt = startedAt + (number * 1_000) / callsPerSecond;
    const earlyMs = dueAt - clock.monotonic();
    if (earlyMs > 0) await delay(earlyMs);
    report.mostLateMs = Math.max(report.mostLateMs, clock.monotonic() - dueAt);
    const { name, call } = calls[number % calls.length]!;
    const round = Math.floor(number / calls.length);
    const made = call(people[(number + round) % people.length]!, number);
    if (made === false) continue;
    const settled = tell(name, made).finally(() => open.delete(settled));
    open.add(settled);
  }
  await Promise.all(open);
}

async function tell(name: string, made: Promise<unknown>): Promise<void> {
  const startedAt = clock.monotonic();
  report.calls[name] = (report.calls[name] ?? 0) + 1;
  await made.catch((error: unknown) => fail(name, error));
  report.latenciesMs.push(clock.monotonic() - startedAt);
}

/** Follows an inbox, and begins again when the stream ends as streams do. */
async function watch({ session }: Person): Promise<void> {
  while (!ended.signal.aborted) {
    report.calls.WatchMyNotifications = (report.calls.WatchMyNotifications ?? 0) + 1;
    try {
      const stream = session.service(NotificationService).watchMyNotifications({}, { signal: ended.signal });
      for await (const _message of stream);
    } catch (error) {
      if (ended.signal.aborted) return;
      if (!STREAM_ENDS.has(reasonOf(error) ?? "")) fail("WatchMyNotifications", error);
    }
  }
}

function fail(call: string, error: unknown): void {
  const { code, rawMessage, cause } = ConnectError.from(error);
  const because = cause instanceof Error ? ` (${cause.message})` : "";
  report.failures.push({
    call,
    atMs: clock.now(),
    why: `${Code[code]} ${reasonOf(error) ?? ""}: ${rawMessage}${because}`,
  });
}

function emptyReport(): Report {
  return { calls: {}, failures: [], latenciesMs: [], mostLateMs: 0 };
}
