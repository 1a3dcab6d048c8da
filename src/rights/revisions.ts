/**
 * Revisions: how far a decision's knowledge goes. Each service counts the changes of each organization, and of what belongs to none
 * (the platform). Writes return theirs as a consistency token; whoever gets one in a call decides on nothing older.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import { validate as isUuid } from "uuid";
import { ConsistencyTokenSchema } from "../../gen/concierge/consistency/v1/consistency_pb.ts";
import { Code, fail } from "../errors.ts";

/** The request header that carries a token. */
export const CONSISTENCY_HEADER = "consistency-token";

/** Versions by subjectOf(). */
export type Revisions = ReadonlyMap<string, bigint>;

export const NO_REVISIONS: Revisions = new Map();

const MAX_LENGTH = 4_096;
const MAX_REVISIONS = 50;
const SERVICE = /^[a-z][a-z-]{0,49}$/;

/** What a version counts the changes of: an organization (its UUID in lower case; "" is the platform) in one service. */
export function subjectOf(service: string, organizationId: string): string {
  return `${service}/${organizationId}`;
}

/** Whether it is a service's changes that a subject counts. */
export function isOf(service: string, subject: string): boolean {
  return subject.startsWith(`${service}/`);
}

/** One subject at one version. */
export function revision(service: string, organizationId: string, version: bigint): Revisions {
  return new Map([[subjectOf(service, organizationId), version]]);
}

/** The newest of each subject. */
export function mergeRevisions(...all: Revisions[]): Revisions {
  const merged = new Map<string, bigint>();
  for (const revisions of all) {
    for (const [subject, version] of revisions) {
      if (version > (merged.get(subject) ?? -1n)) merged.set(subject, version);
    }
  }
  return merged;
}

/** Whether what is known is as new as what is wanted. Subjects that the known does not depend on do not count. */
export function covers(known: Revisions, wanted: Revisions): boolean {
  if (wanted.size === 0) return true;
  for (const [subject, version] of known) {
    if (version < (wanted.get(subject) ?? 0n)) return false;
  }
  return true;
}

/** The opaque text of them; empty for none. */
export function toConsistencyToken(revisions: Revisions): string {
  if (revisions.size === 0) return "";
  const packed = [...revisions].map(([subject, version]) => {
    const slash = subject.indexOf("/");
    return { service: subject.slice(0, slash), organizationId: subject.slice(slash + 1), version };
  });
  return base64Encode(toBinary(ConsistencyTokenSchema, create(ConsistencyTokenSchema, { revisions: packed })), "url");
}

/** What a token says. INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN. */
export function fromConsistencyToken(token: string): Revisions {
  if (token === "") return NO_REVISIONS;
  try {
    if (token.length > MAX_LENGTH) throw new Error("too long");
    const { revisions } = fromBinary(ConsistencyTokenSchema, base64Decode(token));
    if (revisions.length > MAX_REVISIONS) throw new Error("too many");
    return mergeRevisions(
      ...revisions.map(({ service, organizationId, version }) => {
        if (!SERVICE.test(service)) throw new Error("no service");
        if (organizationId !== "" && !isUuid(organizationId)) throw new Error("no organization");
        return revision(service, organizationId.toLowerCase(), version);
      }),
    );
  } catch {
    throw fail(Code.InvalidArgument, "INVALID_CONSISTENCY_TOKEN", "this is no consistency token");
  }
}

/** What the header lines of a call want to be known; more than one line counts together. INVALID_ARGUMENT as above. */
export function wantedRevisions(rawHeaders: readonly string[]): Revisions {
  let wanted = NO_REVISIONS;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.length !== CONSISTENCY_HEADER.length) continue;
    if (rawHeaders[index]!.toLowerCase() !== CONSISTENCY_HEADER) continue;
    wanted = mergeRevisions(wanted, fromConsistencyToken(rawHeaders[index + 1]!.trim()));
  }
  return wanted;
}
