import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { DescMessage, DescMethodUnary } from "@bufbuild/protobuf";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { assertAnswered, assertUnauthenticated, callSigned, procedureOf, tokenFor } from "../testing/signed-calls.ts";
import { assertNoStateChange, untilHeard } from "../testing/state.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { allWires, encodeMessage, frameMessage, type Wire, wireName } from "../testing/wire.ts";
import { messageDigest } from "../token/service-token.ts";

const { getAccount, checkSession } = AuthInternalService.method;
const { createRole, listRoles, getUserRoles } = AccessInternalService.method;

const connectWires = allWires.filter(({ protocol }) => protocol === "connect");

describe("the digest in a service token", () => {
  let system: TestSystem;
  let userId: string;
  let otherId: string;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access] });
    ({ userId } = await system.newUser());
    ({ userId: otherId } = await system.newUser());
    await untilHeard(system, ["access"]);
  });

  after(() => system[Symbol.asyncDispose]());

  const unchanged = (act: () => Promise<void>) => assertNoStateChange(system, act, ["access"]);
  const roleName = () => `role-${crypto.randomUUID().slice(0, 8)}`;

  test("S-HMAC-05 a message other than the signed one is refused, and does not spend the token", async () => {
    const signedCalls = allWires.map((wire) => {
      const message = encodeMessage(wire, createRole.input, { name: roleName(), description: "signed" });
      return { wire, message, token: tokenFor(system, wire, { method: createRole, message }) };
    });
    await unchanged(async () => {
      for (const { wire, message, token } of signedCalls) {
        const forgeries: [name: string, bytes: Uint8Array][] = [
          ["one byte changed", changedByte(message)],
          ["fields in another order", reordered(wire)],
          ["an unknown field added", withUnknownField(wire, message)],
          ["a byte less", message.subarray(0, -1)],
          ["nothing", new Uint8Array()],
        ];
        for (const [name, bytes] of forgeries) {
          const answer = await callSigned(system, wire, { method: createRole, message: bytes, token });
          assertUnauthenticated(answer, wire, `${name}, ${wireName(wire)}`);
        }
      }
    });
    for (const { wire, message, token } of signedCalls) {
      const answer = await callSigned(system, wire, { method: createRole, message, token });
      assertAnswered(answer, `the signed message after the forged ones, ${wireName(wire)}`);
    }
  });

  test("S-HMAC-05 the same fields in another order are another message", async () => {
    for (const wire of allWires) {
      const [name, description] = [roleName(), "signed"];
      const [one, two] = [encodeMessage(wire, createRole.input, { name, description }), reordered(wire, name)];
      assert.equal(one.length, two.length);
      const token = tokenFor(system, wire, { method: createRole, message: one });
      assertUnauthenticated(await callSigned(system, wire, { method: createRole, message: two, token }), wire, "other");
      assertAnswered(await callSigned(system, wire, { method: createRole, message: two }), "signed as it is sent");
    }
  });

  test("S-HMAC-05 a compressed message is refused, whichever bytes were signed", async () => {
    await unchanged(async () => {
      for (const wire of allWires) {
        const plain = encodeMessage(wire, createRole.input, { name: roleName() });
        const compressed = gzipSync(plain);
        const header = wire.protocol === "connect" ? "content-encoding" : "grpc-encoding";
        for (const signed of [plain, compressed]) {
          const token = tokenFor(system, wire, { method: createRole, message: signed });
          const call = { method: createRole, message: compressed, token, frameFlags: 1 };
          const answer = await callSigned(system, wire, { ...call, headers: [[header, "gzip"]] });
          assertUnauthenticated(answer, wire, `${signed === plain ? "plain" : "compressed"}, ${wireName(wire)}`);
        }
      }
    });
  });

  test("S-HMAC-05 gRPC: a second frame, bytes behind the frame, or a wrong length is refused", async () => {
    await unchanged(async () => {
      for (const wire of allWires.filter(({ protocol }) => protocol !== "connect")) {
        const message = encodeMessage(wire, createRole.input, { name: roleName() });
        const token = tokenFor(system, wire, { method: createRole, message });
        const frame = frameMessage(message);
        const longer = Buffer.from(frame);
        longer.writeUInt32BE(message.length + 1, 1);
        const bodies = {
          "two frames": Buffer.concat([frame, frame]),
          "a byte behind": Buffer.concat([frame, Buffer.from([0])]),
          "a longer length": longer,
          "no frame": Buffer.from(message),
          "half a frame head": frame.subarray(0, 3),
          "a trailer frame": Buffer.concat([frame, frameMessage(new Uint8Array(), 0x80)]),
        };
        for (const [name, body] of Object.entries(bodies)) {
          const answer = await callSigned(system, wire, { method: createRole, message, token, body });
          assertUnauthenticated(answer, wire, `${name}, ${wireName(wire)}`);
        }
      }
    });
  });

  test("a message of zero bytes has a digest too", async () => {
    for (const wire of allWires.filter(({ encoding }) => encoding === "proto")) {
      const noBytes = { digest: messageDigest(new Uint8Array()) };
      assertAnswered(await callSigned(system, wire, { method: listRoles, forgery: noBytes }), wireName(wire));
      const other = { digest: messageDigest(Buffer.from("{}")) };
      const refused = await callSigned(system, wire, { method: listRoles, forgery: other });
      assertUnauthenticated(refused, wire, wireName(wire));
    }
  });

  test("Connect GET: the digest is that of the decoded message parameter, in base64 or plain", async () => {
    for (const wire of connectWires) {
      const message = encodeMessage(wire, getAccount.input, { userId });
      const bytes = Buffer.from(message);
      const spellings = [
        `base64=1&message=${bytes.toString("base64url")}`,
        `base64=1&message=${encodeURIComponent(bytes.toString("base64"))}`,
        ...(wire.encoding === "json" ? [`message=${encodeURIComponent(bytes.toString())}`] : []),
      ];
      for (const spelling of spellings) {
        assertAnswered(await get(wire, getAccount, message, spelling), `${spelling}, ${wireName(wire)}`);
      }
      const empty = wire.encoding === "proto" ? "base64=1&message=" : "message=%7B%7D";
      const nothing = encodeMessage(wire, listRoles.input, {});
      assertAnswered(await get(wire, listRoles, nothing, empty), `an empty message, ${wireName(wire)}`);
    }
  });

  test("S-HMAC-05 Connect GET: another message than the signed one is refused", async () => {
    for (const wire of connectWires) {
      const signed = Buffer.from(encodeMessage(wire, getAccount.input, { userId }));
      const other = Buffer.from(encodeMessage(wire, getAccount.input, { userId: otherId }));
      const inBase64 = signed.toString("base64url");
      const forgeries = [
        `base64=1&message=${other.toString("base64url")}`,
        `message=${encodeURIComponent(other.toString())}`,
        `message=${inBase64}`,
        `base64=1&message=${other.toString("base64url")}&message=${inBase64}`,
        `base64=1&compression=gzip&message=${gzipSync(signed).toString("base64url")}`,
        `base64=1&compression=gzip&message=${inBase64}`,
        "base64=1&message=",
        "",
        // One decoder stops at the sign of padding, another reads on.
        `base64=1&message=${inBase64}%3D${other.toString("base64url")}`,
        `base64=1&message=${signed.toString("base64").replace(/=*$/, "")}%3D%3D${other.toString("base64url")}`,
        `base64=1&message=${inBase64}!`,
      ];
      for (const query of forgeries) {
        assertUnauthenticated(await get(wire, getAccount, signed, query), wire, `${query}, ${wireName(wire)}`);
      }
      const compressed = gzipSync(signed);
      const query = `base64=1&compression=gzip&message=${compressed.toString("base64url")}`;
      assertUnauthenticated(await get(wire, getAccount, compressed, query), wire, "the compressed bytes were signed");
    }
  });

  test("S-HMAC-05 Connect GET: fields appended behind the signed message never reach the method", async () => {
    const wire: Wire = { protocol: "connect", encoding: "proto", http: "2" };
    const signed = Buffer.from(encodeMessage(wire, getUserRoles.input, { userId: "not-a-uuid" }));
    const appended = Buffer.from(encodeMessage(wire, getUserRoles.input, { userId: otherId }));
    // In protobuf the last of two values wins, so an attacker who can append has chosen the message.
    const query = `base64=1&message=${signed.toString("base64url")}%3D${appended.toString("base64url")}`;
    assertUnauthenticated(await get(wire, getUserRoles, signed, query), wire, query);
  });

  test("Connect GET without a digest is refused, but for an operator outside production", async () => {
    for (const wire of connectWires) {
      const message = encodeMessage(wire, getAccount.input, { userId });
      const query = `base64=1&message=${Buffer.from(message).toString("base64url")}`;
      const call = { method: getAccount, message, path: pathOf(wire, getAccount, query), httpMethod: "GET" };
      const forgery = { digest: undefined };
      for (const caller of ["user", "backend"]) {
        assertUnauthenticated(await callSigned(system, wire, { ...call, caller, forgery }), wire, caller);
      }
      assertAnswered(await callSigned(system, wire, { ...call, caller: "operator", forgery }), wireName(wire));
    }
  });

  test("S-HMAC-06 Connect GET: a token for one method is nothing to another", async () => {
    for (const wire of connectWires) {
      const message = new Uint8Array();
      const token = tokenFor(system, wire, { method: getAccount, message });
      const path = pathOf(wire, checkSession, "base64=1&message=");
      const answer = await callSigned(system, wire, { method: checkSession, message, token, path, httpMethod: "GET" });
      assertUnauthenticated(answer, wire, wireName(wire));
    }
  });

  function get<I extends DescMessage, O extends DescMessage>(
    wire: Wire,
    method: DescMethodUnary<I, O>,
    signed: Uint8Array,
    query: string,
  ) {
    const token = tokenFor(system, wire, { method, message: signed });
    return callSigned(system, wire, { method, token, path: pathOf(wire, method, query), httpMethod: "GET" });
  }
});

function pathOf({ encoding }: Wire, method: Parameters<typeof procedureOf>[0], query: string): string {
  return `${procedureOf(method)}?connect=v1&encoding=${encoding}&${query}`;
}

function changedByte(bytes: Uint8Array): Uint8Array {
  return Buffer.from(Buffer.from(bytes).toString("latin1").replace("signed", "sighed"), "latin1");
}

/** A CreateRole whose description stands before its name. */
function reordered(wire: Wire, name = "reordered"): Uint8Array {
  const description = "signed";
  if (wire.encoding === "json") return Buffer.from(JSON.stringify({ description, name }));
  return Buffer.concat([{ description }, { name }].map((part) => encodeMessage(wire, createRole.input, part)));
}

function withUnknownField(wire: Wire, bytes: Uint8Array): Uint8Array {
  if (wire.encoding === "json") return Buffer.from(Buffer.from(bytes).toString().replace("{", '{"more":1,'));
  return Buffer.concat([bytes, Buffer.from([0xf8, 0x07, 0x01])]);
}
