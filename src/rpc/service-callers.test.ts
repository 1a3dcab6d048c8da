import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type DescMessage, type DescMethodUnary, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { NotificationInternalService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { access as accessOption, type Callers } from "../../gen/concierge/options/v1/access_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import type { ServiceKey } from "../config.ts";
import { Code } from "../errors.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { notification } from "../services/notification/service.ts";
import { organization } from "../services/organization/service.ts";
import { user } from "../services/user/service.ts";
import { services as allServices } from "../services.ts";
import { assertAnswered, assertUnauthenticated, calleeOf, callSigned, tokenFor } from "../testing/signed-calls.ts";
import { assertNoStateChange, untilHeard } from "../testing/state.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { allWires, callWire, type Wire, type WireAnswer, wireName } from "../testing/wire.ts";
import { createServiceKey, pairsOf } from "../token/key-making.ts";
import { SERVICE_TOKEN_HEADER } from "../token/service-token.ts";
import { mayCall, sideOf } from "./access.ts";

type AnyMethod = DescMethodUnary<DescMessage, DescMessage>;

const definitions = [auth, access, organization, user, notification];
const DATABASES = definitions.map(({ name }) => name);
const internalServices = allServices.flatMap(({ services }) => services.filter((desc) => sideOf(desc) === "internal"));
const internalMethods = internalServices.flatMap((desc) => unaryMethods(desc));
/** Everybody who could hold a key: our services, the operator, a backend of the product, and a service nobody lists. */
const callers = [...allServices.map(({ name }) => name), "operator", "backend", "stranger"];
const connectProto: Wire = { protocol: "connect", encoding: "proto", http: "1.1" };

describe("who may call internal methods", () => {
  let system: TestSystem;
  let accessToken: string;

  before(async () => {
    system = await startTestSystem({ definitions, extraKeys: keysOutsideTheContract() });
    ({ accessToken } = await system.newUser());
    await untilHeard(system, DATABASES);
  });

  after(() => system[Symbol.asyncDispose]());

  const unchanged = (act: () => Promise<void>) => assertNoStateChange(system, act, DATABASES);

  test("S-HMAC-11 a known caller that the method does not list is refused over every wire, nothing stored", async () => {
    const { markProcessed } = NotificationInternalService.method;
    await unchanged(async () => {
      for (const wire of allWires) {
        const answer = await callSigned(system, wire, { method: markProcessed, caller: "greeter" });
        assertNotAllowed(answer, wire, wireName(wire));
      }
    });
  });

  test("S-HMAC-12 every internal method lists its callers in the contract", () => {
    assert.ok(internalMethods.length >= 11);
    for (const method of internalMethods) {
      const listed = listedCallers(method);
      assert.ok(listed.services.length > 0 || listed.backends || listed.operators, method.name);
      for (const name of listed.services) assert.ok(callers.includes(name), `${method.name} lists ${name}`);
    }
  });

  test("S-HMAC-12 every method refuses every caller that it does not list", async () => {
    let refused = 0;
    await unchanged(async () => {
      for (const method of internalMethods) {
        for (const caller of callers.filter((name) => !isListed(method, name))) {
          const wire = allWires[refused % allWires.length]!;
          assertNotAllowed(await callSigned(system, wire, { method, caller }), wire, `${caller} -> ${method.name}`);
          refused += 1;
        }
      }
    });
    assert.ok(refused > 50);
  });

  test("S-HMAC-12 every method lets in every caller that it lists", async () => {
    for (const method of internalMethods) {
      const listed = callers.filter((name) => isListed(method, name));
      assert.ok(listed.length > 0);
      for (const caller of listed) {
        // The only method that could refuse an empty message like an unknown caller.
        const message = method.name === "VerifyToken" ? { token: accessToken, accessToken } : {};
        const { code } = await callSigned(system, connectProto, { method, caller, message });
        // Most of them refuse the empty message, which is after the decision about the caller.
        const isLetIn = code === undefined || code === Code.InvalidArgument || code === Code.NotFound;
        assert.ok(isLetIn, `${caller} -> ${method.name}: ${code}`);
      }
    }
  });

  test("S-HMAC-12 a user's token, alone or beside a right service token of nobody listed, opens no method", async () => {
    await unchanged(async () => {
      for (const [index, method] of internalMethods.entries()) {
        const wire = allWires[index % allWires.length]!;
        const authorization = ["authorization", `Bearer ${accessToken}`] as const;
        for (const headers of [[], [authorization], [[SERVICE_TOKEN_HEADER, accessToken] as const]]) {
          const answer = await callWire(wire, system.internalUrl, { method, headers });
          assertUnauthenticated(answer, wire, method.name);
        }
        const stranger = await callSigned(system, wire, { method, caller: "stranger", headers: [authorization] });
        assertNotAllowed(stranger, wire, method.name);
      }
    });
  });

  test("S-HMAC-12 a caller's kind is the key's, whatever its name: no service passes as an operator by name", async () => {
    const { claim, markProcessed } = NotificationInternalService.method;
    const keyOf = (caller: string, kind: ServiceKey["kind"]) =>
      system.serviceKeys.find((key) => key.callee === "notification" && key.caller === caller && key.kind === kind)!;
    for (const caller of ["operator", "backend"]) {
      const forgery = { key: keyOf(caller, "service") };
      for (const method of [claim, markProcessed] as AnyMethod[]) {
        assertNotAllowed(await callSigned(system, connectProto, { method, forgery }), connectProto, caller);
      }
    }
    const asBackend = { key: keyOf("notification-sender", "backend") };
    assertAnswered(await callSigned(system, connectProto, { method: claim, forgery: asBackend }), "lists backends");
  });

  test("S-HMAC-12 each kind of caller has an entry of its own in the list", () => {
    const rule = { who: "callers" as const, services: ["user", "operator"], backends: false, operators: false };
    assert.ok(mayCall(rule, { kind: "service", name: "user" }));
    for (const kind of ["backend", "operator"] as const) {
      for (const name of rule.services) assert.ok(!mayCall(rule, { kind, name }), `${kind} ${name}`);
      assert.ok(mayCall({ ...rule, services: [], [`${kind}s`]: true }, { kind, name: "anybody" }), kind);
    }
    assert.ok(!mayCall({ ...rule, backends: true, operators: true }, { kind: "service", name: "backend" }));
  });

  test("S-HMAC-13 no internal method is on the public listener, whatever is shown there", async () => {
    await unchanged(async () => {
      for (const [index, method] of internalMethods.entries()) {
        const caller = callers.find((name) => isListed(method, name))!;
        // The first over every wire, the others over two of them in turn: how a path is looked up is one thing for all.
        const wires = index === 0 ? allWires : [0, 5].map((step) => allWires[(index + step) % allWires.length]!);
        for (const wire of wires) {
          const token = tokenFor(system, wire, { method, caller });
          const shown = {
            nothing: [],
            "a user's token": [["authorization", `Bearer ${accessToken}`]],
            "a service token": [[SERVICE_TOKEN_HEADER, token]],
            both: [
              ["authorization", `Bearer ${accessToken}`],
              [SERVICE_TOKEN_HEADER, token],
            ],
          } as const;
          for (const [what, headers] of Object.entries(shown)) {
            const answer = await callWire(wire, system.publicUrl, { method, headers });
            const { code, status } = answer;
            const expected = { code: Code.Unimplemented, status: wire.protocol === "connect" ? 404 : 200 };
            assert.deepEqual({ code, status }, expected, `${method.name} with ${what}, ${wireName(wire)}`);
          }
        }
      }
    });
  });

  test("S-HMAC-13 public methods are not on the internal listener; only a key's holder learns that", async () => {
    const { getMe } = UserService.method;
    for (const wire of allWires) {
      const headers = [["authorization", `Bearer ${accessToken}`]] as const;
      assertUnauthenticated(await callWire(wire, system.internalUrl, { method: getMe, headers }), wire, wireName(wire));
      const key = system.keyOf("backend", "user");
      const { code } = await callSigned(system, wire, { method: getMe, headers, forgery: { key } });
      assert.equal(code, Code.Unimplemented, wireName(wire));
    }
  });

  test("in production mode an operator signs a digest like everybody", async () => {
    await using replica = await system.startReplica({
      CONCIERGE_MODE: "production",
      CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT: "",
      CONCIERGE_AUTH_ATTEMPTS_PER_ADDRESS: "",
    });
    await replica.ready;
    const baseUrl = replica.internalUrl;
    const { checkSession } = AuthInternalService.method;
    const message = { sessionId: crypto.randomUUID(), generation: 0 };
    for (const wire of allWires) {
      const call = { method: checkSession, message, caller: "operator", baseUrl };
      assertAnswered(await callSigned(system, wire, call), wireName(wire));
      const bare = await callSigned(system, wire, { ...call, forgery: { digest: undefined } });
      assertUnauthenticated(bare, wire, wireName(wire));
    }
  });
});

function unaryMethods(desc: DescService): AnyMethod[] {
  for (const method of desc.methods) assert.equal(method.methodKind, "unary", `${method.name} needs a test of its own`);
  return desc.methods as AnyMethod[];
}

/** What the contract says, read without the code under test. */
function listedCallers(method: AnyMethod): Callers {
  assert.ok(hasOption(method, accessOption), `${method.name} has no access option`);
  const { who } = getOption(method, accessOption);
  assert.ok(who.case === "callers", `${method.name} does not list its callers`);
  return who.value;
}

function isListed(method: AnyMethod, caller: string): boolean {
  const { services, backends, operators } = listedCallers(method);
  if (caller === "operator") return operators;
  if (caller === "backend") return backends;
  return services.includes(caller);
}

/** A key for every pair of services that the contract does not join, and keys of the wrong kind. */
function keysOutsideTheContract(): ServiceKey[] {
  const joined = new Set(pairsOf(allServices).map(({ caller, callee }) => `${caller} ${callee}`));
  const callees = [...new Set(internalMethods.map(calleeOf))];
  const names = callers.filter((name) => name !== "operator" && name !== "backend");
  const pairs = callees.flatMap((callee) => names.map((caller) => ({ caller, callee })));
  return [
    ...pairs
      .filter(({ caller, callee }) => !joined.has(`${caller} ${callee}`))
      .map(({ caller, callee }) => createServiceKey(caller, callee, "service")),
    createServiceKey("operator", "notification", "service"),
    createServiceKey("backend", "notification", "service"),
    createServiceKey("notification-sender", "notification", "backend"),
  ];
}

function assertNotAllowed({ status, code, reason, message }: WireAnswer<DescMessage>, wire: Wire, what: string): void {
  assert.deepEqual(
    { status, code, reason, message },
    {
      status: wire.protocol === "connect" ? 403 : 200,
      code: Code.PermissionDenied,
      reason: "CALLER_NOT_ALLOWED",
      message: "this caller may not call this method",
    },
    what,
  );
}
