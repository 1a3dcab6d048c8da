/**
 * Rights that the processes of one caller share by Redis, so that what one of them has asked of access the others need not ask. Redis is
 * not trusted: an answer carries a MAC over whose rights it tells, of which life of the feeds, and when it was asked, by a key that
 * Redis does not know. What is foreign, forged, damaged, too long or too old is no answer. Whether an authentic one is still right
 * only its revisions tell: see confirmed-revisions.ts.
 */
import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { validate as isUuid } from "uuid";
import { GetUserPermissionsResponseSchema } from "../../gen/concierge/access/v1/access_service_pb.ts";
import type { Clock } from "../clock.ts";
import type { Redis } from "../redis.ts";
import { TOLERANCE_SECONDS } from "../token/compact.ts";
import type { ServiceKey } from "../token/service-token.ts";
import { fromConsistencyToken, toConsistencyToken } from "./revisions.ts";
import { packRights, type Rights, type Subject, unpackRights } from "./rights.ts";

export interface SharedRights {
  /** What somebody has stored about them; undefined when there is nothing, or nothing that could be believed, or no answer in time. */
  find(subject: Subject, epochs: readonly string[]): Promise<Rights | undefined>;
  /** Leaves what access has answered for others, and waits for nothing. `epochs`: which lives of the feeds its revisions belong to. */
  store(subject: Subject, epochs: readonly string[], rights: Rights): void;
  /** What became of the questions to Redis; refused is what was there and could not be believed. */
  readonly counts: Readonly<Record<SharedOutcome, number>>;
}

export type SharedOutcome = "found" | "missing" | "refused";

export interface SharedRightsOptions {
  redis: Pick<Redis, "run" | "keyOf">;
  /** The live keys of one caller towards access, at least one: processes with a key in common share. The first one signs. */
  keys: readonly ServiceKey[];
  clock: Clock;
}

/** The longest that anybody waits for Redis before access is asked, which takes some milliseconds itself. */
export const SHARED_TIMEOUT_MS = 50;
/** So long an answer may be found, whatever its revisions say. */
export const SHARED_MS = 300_000;
const TOLERANCE_MS = TOLERANCE_SECONDS * 1_000;
/** Of an answer as it is stored; somebody with more branches is asked for. */
const MAX_CHARACTERS = 64 * 1024;
const MAC_BYTES = 32;
const TIME_BYTES = 8;
const PURPOSE = "concierge shared rights";

/** However much somebody has put there, no more comes back than is looked at. */
const FIND = `
local found = redis.pcall("GETRANGE", KEYS[1], 0, ARGV[1])
return type(found) == "string" and found or "?"`;
const STORE = `redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])`;

export function openSharedRights({ redis, keys, clock }: SharedRightsOptions): SharedRights {
  const macKeys = keys.map(({ secret }) => macKeyOf(secret));
  const { caller, callee } = keys[0]!;
  const counts = { found: 0, missing: 0, refused: 0 };
  const nameOf = ({ organizationId, userId }: Subject, epochs: readonly string[]) =>
    redis.keyOf("rights", caller, callee, ...epochs, organizationId, userId);
  const look = async (name: string): Promise<[SharedOutcome, Rights?]> => {
    const stored = await redis.run(FIND, [name], [MAX_CHARACTERS]);
    if (typeof stored !== "string" || stored === "") return ["missing"];
    const rights = open(stored, name, macKeys, clock.now());
    return rights ? ["found", rights] : ["refused"];
  };
  return {
    counts,
    async find(subject, epochs) {
      if (!isSharable(subject)) return undefined;
      const [outcome, rights] = await look(nameOf(subject, epochs));
      counts[outcome] += 1;
      return rights;
    },
    store(subject, epochs, rights) {
      if (!isSharable(subject)) return;
      const name = nameOf(subject, epochs);
      const text = seal(rights, name, macKeys[0]!, clock.now());
      // Never rejects, and an answer that is not stored is asked for again.
      if (text.length <= MAX_CHARACTERS) void redis.run(STORE, [name], [text, SHARED_MS]);
    },
  };
}

/** Ids are ours: nothing else becomes a part of a name in Redis. */
function isSharable({ organizationId, userId }: Subject): boolean {
  return isUuid(userId) && (organizationId === "" || isUuid(organizationId));
}

function macKeyOf(secret: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", Buffer.from(secret, "base64url"), "", PURPOSE, MAC_BYTES));
}

function macOf(key: Uint8Array, name: string, content: Uint8Array): Buffer {
  return createHmac("sha256", key).update(`${name}\n`).update(content).digest();
}

/** MAC, time of the writer's clock in milliseconds, and the answer as access gives it; base64. */
function seal(rights: Rights, name: string, key: Uint8Array, nowMs: number): string {
  const consistencyToken = toConsistencyToken(rights.revisions);
  const answer = create(GetUserPermissionsResponseSchema, { rights: packRights(rights), consistencyToken });
  const time = Buffer.alloc(TIME_BYTES);
  time.writeDoubleBE(nowMs);
  const content = Buffer.concat([time, toBinary(GetUserPermissionsResponseSchema, answer)]);
  return Buffer.concat([macOf(key, name, content), content]).toString("base64");
}

/** Undefined for whatever seal() has not made of this name within the last 300 s. */
function open(text: string, name: string, keys: readonly Uint8Array[], nowMs: number): Rights | undefined {
  const bytes = Buffer.from(text, "base64");
  if (text.length > MAX_CHARACTERS || bytes.length < MAC_BYTES + TIME_BYTES) return undefined;
  const [mac, content] = [bytes.subarray(0, MAC_BYTES), bytes.subarray(MAC_BYTES)];
  if (!keys.some((key) => timingSafeEqual(macOf(key, name, content), mac))) return undefined;
  const ageMs = nowMs - content.readDoubleBE();
  if (!(ageMs >= -TOLERANCE_MS && ageMs <= SHARED_MS)) return undefined;
  return unpack(content.subarray(TIME_BYTES));
}

/** Undefined for what another version of this code has written, and this one cannot read. */
function unpack(bytes: Uint8Array): Rights | undefined {
  try {
    const { rights, consistencyToken } = fromBinary(GetUserPermissionsResponseSchema, bytes);
    return unpackRights(rights, fromConsistencyToken(consistencyToken));
  } catch {
    return undefined;
  }
}
