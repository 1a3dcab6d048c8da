/** Who may call what. The table below is the review: a change of any rule shows up here, and needs a reason. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { WhenStale } from "../../gen/concierge/options/v1/access_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as AlphaReflection } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { StartupError } from "../errors.ts";
import { createLogger } from "../log.ts";
import { mountService } from "../mount.ts";
import { defineService } from "../service.ts";
import { services } from "../services.ts";
import { type TestMethod, testService } from "../testing/contract.ts";
import { startEdge } from "../testing/edge.ts";
import { accessRule, mayCall, sideOf } from "./access.ts";

type Who = NonNullable<TestMethod["access"]>["who"];

const withRule = (name: string, who: Who | undefined) =>
  testService(name, { Do: { input: EmptySchema, output: EmptySchema, ...(who && { access: { who } }) } });

const stops: [what: string, service: string, who: Who | undefined, message: RegExp][] = [
  ["a public method without a rule", "TestService", undefined, /does not say who may call it/],
  ["an internal method without a rule", "TestInternalService", undefined, /does not say who may call it/],
  ["a method with an empty rule", "TestService", { case: undefined }, /does not say who may call it/],
  ["an internal method for users", "TestInternalService", { case: "user", value: {} }, /must list its callers/],
  ["an internal method for everybody", "TestInternalService", { case: "public", value: {} }, /must list its callers/],
  [
    "a method with side effects that goes on while auth is away",
    "TestService",
    { case: "user", value: { whenStale: WhenStale.UNTIL_EXPIRY } },
    /only a method with NO_SIDE_EFFECTS/,
  ],
  ["a public method for services", "TestService", { case: "callers", value: { services: ["a"] } }, /only internal/],
];

const tracing = { resume: () => undefined };

describe("a contract that would leave a method open", () => {
  for (const [what, name, who, message] of stops) {
    const desc = withRule(name, who);
    const namesIt = (error: unknown) =>
      error instanceof StartupError && message.test(error.message) && error.message.includes(`test.v1.${name}/Do`);

    test(`${what} has no rule to go by`, () => {
      assert.throws(() => accessRule(desc.methods[0]!), namesIt);
    });

    test(`${what} stops the start`, async () => {
      const implementation = { do: () => ({}) } as unknown as ServiceImpl<typeof desc>;
      await assert.rejects(startEdge({ implementations: [{ desc, implementation }] }), namesIt);
      const definition = defineService({
        name: "test",
        ports: { public: 0, internal: 0 },
        config: {},
        services: [desc],
        peers: {},
        start: () => ({ implementations: [{ desc, implementation }] }),
      });
      const { platform } = loadConfig({
        env: { CONCIERGE_MODE: "development" },
        readFile: () => "",
        stat: () => ({ mode: 0o600 }),
        services: {},
        start: [],
      });
      const log = createLogger({ level: "fatal", mode: "development" });
      const options = {
        platform,
        config: {},
        localUrl: () => undefined,
        migrationsFolder: "",
        clock: systemClock,
        log,
        tracing,
      };
      await assert.rejects(mountService(definition, options), namesIt);
    });
  }

  test("a service without an implementation of what it promises does not start", async () => {
    const desc = withRule("TestService", { case: "public", value: {} });
    const definition = defineService({
      name: "test",
      ports: { public: 0, internal: 0 },
      config: {},
      services: [desc],
      peers: {},
      start: () => ({ implementations: [] }),
    });
    const platform = { mode: "development", issuer: "http://127.0.0.1" } as never;
    const log = createLogger({ level: "fatal", mode: "development" });
    const options = {
      platform,
      config: {},
      localUrl: () => undefined,
      migrationsFolder: "",
      clock: systemClock,
      log,
      tracing,
    };
    await assert.rejects(mountService(definition, options), /does not implement test\.v1\.TestService/);
  });
});

/** Every method of every service: the listener that serves it, and who may call it. */
const TABLE = `
auth.AuthService/CheckPermission                                             internal  backends operators
auth.AuthService/GetOrganization                                             internal  backends operators
auth.AuthService/GetUserLocals                                               internal  backends operators
auth.AuthService/GetUserPermissions                                          internal  backends operators
auth.AuthService/VerifyToken                                                 internal  backends operators
concierge.access.v1.AccessInternalService/AssignRole                         internal  backends operators
concierge.access.v1.AccessInternalService/BatchCheckPermissions              internal  backends operators
concierge.access.v1.AccessInternalService/BatchGetUserRoles                  internal  user backends operators
concierge.access.v1.AccessInternalService/BootstrapAdmin                     internal  operators
concierge.access.v1.AccessInternalService/CheckPermission                    internal  backends operators
concierge.access.v1.AccessInternalService/CreatePermission                   internal  backends operators
concierge.access.v1.AccessInternalService/CreateRole                         internal  backends operators
concierge.access.v1.AccessInternalService/ExplainPermission                  internal  backends operators
concierge.access.v1.AccessInternalService/GetUserPermissions                 internal  auth notification organization user backends operators
concierge.access.v1.AccessInternalService/GetUserRoles                       internal  backends operators
concierge.access.v1.AccessInternalService/GrantAdmin                         internal  operators
concierge.access.v1.AccessInternalService/ListRoles                          internal  backends operators
concierge.access.v1.AccessInternalService/ListUsersWithPermission            internal  backends operators
concierge.access.v1.AccessInternalService/ListUsersWithRole                  internal  notification backends operators
concierge.access.v1.AccessInternalService/RevokeAdmin                        internal  operators
concierge.access.v1.AccessInternalService/UnassignRole                       internal  backends operators
concierge.access.v1.AccessService/AssignRole                                 public    a person who holds roles:assign
concierge.access.v1.AccessService/CreateRole                                 public    a person who holds roles:create
concierge.access.v1.AccessService/DeleteRole                                 public    a person who holds roles:delete
concierge.access.v1.AccessService/ExplainPermission                          public    a person who holds roles:read
concierge.access.v1.AccessService/GetMyPermissions                           public    a person with a live session
concierge.access.v1.AccessService/GetMyRoles                                 public    a person with a live session
concierge.access.v1.AccessService/GrantPermission                            public    a person who holds roles:assign
concierge.access.v1.AccessService/ListAssignments                            public    a person who holds roles:read
concierge.access.v1.AccessService/ListPermissions                            public    a person with a live session
concierge.access.v1.AccessService/ListRoles                                  public    a person who holds roles:read
concierge.access.v1.AccessService/RevokePermission                           public    a person who holds roles:assign
concierge.access.v1.AccessService/UnassignRole                               public    a person who holds roles:assign
concierge.access.v1.AccessService/UpdateRole                                 public    a person who holds roles:update
concierge.auth.v1.AuthInternalService/CheckSession                           internal  access greeter notification organization user backends operators
concierge.auth.v1.AuthInternalService/DeleteAccount                          internal  backends operators
concierge.auth.v1.AuthInternalService/DisableAccount                         internal  backends operators
concierge.auth.v1.AuthInternalService/EnableAccount                          internal  backends operators
concierge.auth.v1.AuthInternalService/EndUserSessions                        internal  backends operators
concierge.auth.v1.AuthInternalService/GetAccount                             internal  access organization user backends operators
concierge.auth.v1.AuthInternalService/ImportUsers                            internal  operators
concierge.auth.v1.AuthInternalService/ListAuditEntries                       internal  backends operators
concierge.auth.v1.AuthInternalService/ListEndedSessions                      internal  access greeter notification organization user backends operators
concierge.auth.v1.AuthInternalService/RemoveSigningKey                       internal  operators
concierge.auth.v1.AuthInternalService/SendPasswordReset                      internal  backends operators
concierge.auth.v1.AuthInternalService/VerifyAuditLog                         internal  operators
concierge.auth.v1.AuthInternalService/VerifyToken                            internal  backends operators
concierge.auth.v1.AuthService/ChangeEmail                                    public    a person with a live session
concierge.auth.v1.AuthService/ChangePassword                                 public    a person with a live session
concierge.auth.v1.AuthService/DeleteMyAccount                                public    a person with a live session
concierge.auth.v1.AuthService/EndOtherSessions                               public    a person with a live session
concierge.auth.v1.AuthService/EndSession                                     public    a person with a live session
concierge.auth.v1.AuthService/ExportMyData                                   public    a person with a live session
concierge.auth.v1.AuthService/ListMySecurityEvents                           public    a person with a live session
concierge.auth.v1.AuthService/ListSessions                                   public    a person with a live session
concierge.auth.v1.AuthService/Login                                          public    anybody
concierge.auth.v1.AuthService/Logout                                         public    anybody
concierge.auth.v1.AuthService/RefreshToken                                   public    anybody
concierge.auth.v1.AuthService/RegisterArtist                                 public    anybody
concierge.auth.v1.AuthService/RegisterUser                                   public    anybody
concierge.auth.v1.AuthService/RequestPasswordReset                           public    anybody
concierge.auth.v1.AuthService/ResendVerification                             public    anybody
concierge.auth.v1.AuthService/ResetPassword                                  public    anybody
concierge.auth.v1.AuthService/VerifyEmail                                    public    anybody
concierge.greeter.v1.GreeterService/SayHello                                 public    a person with a live session, until its token expires
concierge.greeter.v1.GreeterService/SayHelloBidirectional                    public    a person with a live session
concierge.greeter.v1.GreeterService/SayHelloClientStream                     public    a person with a live session
concierge.greeter.v1.GreeterService/SayHelloStream                           public    a person with a live session
concierge.notification.v1.NotificationInternalService/CancelNotification     internal  backends operators
concierge.notification.v1.NotificationInternalService/Claim                  internal  notification-sender backends
concierge.notification.v1.NotificationInternalService/CreateNotification     internal  backends operators
concierge.notification.v1.NotificationInternalService/ExtendLease            internal  notification-sender backends
concierge.notification.v1.NotificationInternalService/GetQueueStatus         internal  operators
concierge.notification.v1.NotificationInternalService/ListDeadLetters        internal  operators
concierge.notification.v1.NotificationInternalService/ListRecipients         internal  backends operators
concierge.notification.v1.NotificationInternalService/ListUnprocessed        internal  backends operators
concierge.notification.v1.NotificationInternalService/MarkProcessed          internal  notification-sender backends operators
concierge.notification.v1.NotificationInternalService/RedriveDeadLetters     internal  operators
concierge.notification.v1.NotificationService/CountUnread                    public    a person with a live session
concierge.notification.v1.NotificationService/ExportMyData                   public    a person with a live session
concierge.notification.v1.NotificationService/ListMutedTopics                public    a person with a live session
concierge.notification.v1.NotificationService/ListMyDevices                  public    a person with a live session
concierge.notification.v1.NotificationService/ListMyNotifications            public    a person with a live session
concierge.notification.v1.NotificationService/MarkRead                       public    a person with a live session
concierge.notification.v1.NotificationService/MarkReceived                   public    a person with a live session
concierge.notification.v1.NotificationService/MuteTopic                      public    a person with a live session
concierge.notification.v1.NotificationService/RegisterDevice                 public    a person with a live session
concierge.notification.v1.NotificationService/RemoveDevice                   public    a person with a live session
concierge.notification.v1.NotificationService/UnmuteTopic                    public    a person with a live session
concierge.notification.v1.NotificationService/WatchMyNotifications           public    a person with a live session
concierge.organization.v1.OrganizationInternalService/FilterMembers          internal  access notification backends operators
concierge.organization.v1.OrganizationInternalService/GetMembership          internal  access backends operators
concierge.organization.v1.OrganizationInternalService/GetOrganization        internal  auth backends operators
concierge.organization.v1.OrganizationInternalService/ListMemberships        internal  access notification backends operators
concierge.organization.v1.OrganizationInternalService/ListUserOrganizations  internal  backends operators
concierge.organization.v1.OrganizationInternalService/ReleaseUser            internal  auth
concierge.organization.v1.OrganizationInternalService/ResumeOrganization     internal  backends operators
concierge.organization.v1.OrganizationInternalService/SetOwner               internal  operators
concierge.organization.v1.OrganizationInternalService/SetPlan                internal  backends operators
concierge.organization.v1.OrganizationInternalService/SuspendOrganization    internal  backends operators
concierge.organization.v1.OrganizationService/AcceptInvitation               public    a person with a live session
concierge.organization.v1.OrganizationService/ChangeMemberRole               public    a person who holds members:update
concierge.organization.v1.OrganizationService/CloseBranch                    public    a person who holds branches:update
concierge.organization.v1.OrganizationService/CreateBranch                   public    a person who holds branches:create
concierge.organization.v1.OrganizationService/CreateOrganization             public    a person with a live session
concierge.organization.v1.OrganizationService/DeclineInvitation              public    a person with a live session
concierge.organization.v1.OrganizationService/DeleteOrganization             public    a person who holds organization:delete
concierge.organization.v1.OrganizationService/GetMyOrganization              public    a person who holds organization:read, until the token expires
concierge.organization.v1.OrganizationService/InviteMember                   public    a person who holds members:invite
concierge.organization.v1.OrganizationService/LeaveOrganization              public    a person with a live session
concierge.organization.v1.OrganizationService/ListBranches                   public    a person who holds branches:read, until the token expires
concierge.organization.v1.OrganizationService/ListInvitations                public    a person who holds members:invite
concierge.organization.v1.OrganizationService/ListMembers                    public    a person who holds members:read
concierge.organization.v1.OrganizationService/ListMyInvitations              public    a person with a live session
concierge.organization.v1.OrganizationService/ListMyOrganizations            public    a person with a live session
concierge.organization.v1.OrganizationService/RemoveMember                   public    a person who holds members:remove
concierge.organization.v1.OrganizationService/RenameBranch                   public    a person who holds branches:update
concierge.organization.v1.OrganizationService/RevokeInvitation               public    a person who holds members:invite
concierge.organization.v1.OrganizationService/TransferOwnership              public    a person who holds organization:transfer
concierge.organization.v1.OrganizationService/UpdateOrganization             public    a person who holds organization:update
concierge.user.v1.UserInternalService/BatchGetUsers                          internal  backends operators
concierge.user.v1.UserInternalService/GetUser                                internal  backends operators
concierge.user.v1.UserService/ExportMyData                                   public    a person with a live session
concierge.user.v1.UserService/GetArtist                                      public    a person with a live session
concierge.user.v1.UserService/GetMe                                          public    a person with a live session, until its token expires
concierge.user.v1.UserService/GetUser                                        public    a person with a live session
concierge.user.v1.UserService/UpdateArtist                                   public    a person with a live session
concierge.user.v1.UserService/UpdateUser                                     public    a person with a live session
`;

test("who may call what, for every method of every service", () => {
  const methods = services.flatMap((definition) => definition.services.flatMap((desc) => desc.methods));
  const actual = methods.map((method) => {
    const rule = accessRule(method);
    const who = {
      public: () => "anybody",
      user: () => (rule.who === "user" ? personOf(rule) : ""),
      permission: () => (rule.who === "permission" ? holderOf(rule) : ""),
      callers: () => (rule.who === "callers" ? callersOf(rule) : ""),
    }[rule.who]();
    return `${method.parent.typeName}/${method.name} ${sideOf(method.parent)} ${who}`;
  });
  const expected = TABLE.trim()
    .split("\n")
    .map((line) => line.replaceAll(/ +/g, " "));
  assert.deepEqual(actual.sort(), expected);
});

function personOf({ whenStale }: { whenStale: "closed" | "until_expiry" }): string {
  return `a person with a live session${whenStale === "closed" ? "" : ", until its token expires"}`;
}

function holderOf({ permission, whenStale }: { permission: string; whenStale: "closed" | "until_expiry" }): string {
  return `a person who holds ${permission}${whenStale === "closed" ? "" : ", until the token expires"}`;
}

function callersOf(rule: { services: string[]; backends: boolean; operators: boolean }): string {
  return [...rule.services, ...(rule.backends ? ["backends"] : []), ...(rule.operators ? ["operators"] : [])].join(" ");
}

test("health and reflection are open, and nothing else of third parties is", () => {
  for (const desc of [Health, ServerReflection, AlphaReflection]) {
    for (const method of desc.methods) assert.deepEqual(accessRule(method), { who: "public" });
  }
});

test("a caller is let in by its kind and, if it is a service, by its name", () => {
  const kinds = ["service", "backend", "operator"] as const;
  const letsIn = (rule: { services: string[]; backends: boolean; operators: boolean }) =>
    kinds.filter((kind) => mayCall({ who: "callers", ...rule }, { kind, name: "user" }));
  assert.deepEqual(letsIn({ services: [], backends: false, operators: false }), []);
  assert.deepEqual(letsIn({ services: ["user"], backends: false, operators: false }), ["service"]);
  assert.deepEqual(letsIn({ services: ["users", "use", ""], backends: false, operators: false }), []);
  assert.deepEqual(letsIn({ services: [], backends: true, operators: false }), ["backend"]);
  assert.deepEqual(letsIn({ services: ["backend"], backends: false, operators: true }), ["operator"]);
});
