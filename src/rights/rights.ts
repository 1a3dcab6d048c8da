/**
 * Rights: what a person may do in one organization, or on the platform, decided from roles, assignments and membership by access.
 * Whoever holds somebody's rights decides every permission of that person there without asking again.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { LRUCache } from "lru-cache";
import {
  type Rights as RightsMessage,
  RightsSchema,
  Standing as StandingMessage,
} from "../../gen/concierge/access/v1/rights_pb.ts";
import type { Revisions } from "./revisions.ts";

/** What a person is to an organization: no member, a member of a suspended one, or a member for whom roles count. */
export type Standing = "none" | "suspended" | "active";

export interface Rights {
  readonly standing: Standing;
  /** Names of the roles that count in the whole organization, in alphabetical order. */
  readonly roles: readonly string[];
  /** Held in the whole organization, in alphabetical order. */
  readonly permissions: ReadonlySet<string>;
  /** Every open branch in which the person may act, with what is held there beside the above. */
  readonly branches: ReadonlyMap<string, ReadonlySet<string>>;
  /** What was known when this was decided. */
  readonly revisions: Revisions;
}

/** Whose rights, and where. Ids in lower case; the empty organization is the platform. */
export interface Subject {
  userId: string;
  organizationId: string;
}

const MAX_SHARED_CHARACTERS = 10_000_000;
const NOTHING: ReadonlySet<string> = new Set();
/** People with the same roles share their sets: a hundred names take more memory than all the rest. */
const sets = shared<ReadonlySet<string>>();
/** Whoever sees every branch shares them with all others who do. */
const maps = shared<Rights["branches"]>();

/** Whether a permission is held in the whole organization, or in one of its open branches. */
export function holds(rights: Rights, permission: string, branchId?: string): boolean {
  if (rights.standing !== "active") return false;
  if (branchId === undefined) return rights.permissions.has(permission);
  const branch = rights.branches.get(branchId);
  if (branch === undefined) return false;
  return rights.permissions.has(permission) || branch.has(permission);
}

/** The rights of somebody for whom nothing counts. */
export function noRights(standing: "none" | "suspended", revisions: Revisions): Rights {
  return { standing, roles: [], permissions: NOTHING, branches: new Map(), revisions };
}

/** The same names as a set, shared by all who ask for them; in alphabetical order. */
export function setOf(names: readonly string[]): ReadonlySet<string> {
  if (names.length === 0) return NOTHING;
  const sorted = [...names].sort();
  return sets(sorted.join(" "), () => new Set(sorted));
}

/** What is held in each branch; nothing beside what is held everywhere is one map, shared by all with these branches. */
export function branchesOf(
  held: readonly (readonly [branchId: string, held: ReadonlySet<string>])[],
): Rights["branches"] {
  const isPlain = held.every(([, permissions]) => permissions === NOTHING);
  return isPlain ? maps(held.map(([id]) => id).join(" "), () => new Map(held)) : new Map(held);
}

export function packRights({ standing, roles, permissions, branches }: Rights): MessageInitShape<typeof RightsSchema> {
  return {
    standing: STANDINGS[standing],
    roles: [...roles],
    permissions: [...permissions],
    branches: [...branches].map(([branchId, held]) => ({ branchId, permissions: [...held] })),
  };
}

/** Throws if they say nothing of a standing: then they are no rights. */
export function unpackRights(message: RightsMessage | undefined, revisions: Revisions): Rights {
  const { standing, roles, permissions, branches } = message ?? create(RightsSchema);
  const found = (Object.keys(STANDINGS) as Standing[]).find((name) => STANDINGS[name] === standing);
  if (!found) throw new Error("access told of an unknown standing");
  return {
    standing: found,
    roles,
    permissions: setOf(permissions),
    branches: branchesOf(branches.map(({ branchId, permissions: held }) => [branchId, setOf(held)] as const)),
    revisions,
  };
}

/** Gives what was made under a key before, as long as there is room for so long a key. */
function shared<Value extends object>(): (key: string, make: () => Value) => Value {
  const made = new LRUCache<string, Value>({
    maxSize: MAX_SHARED_CHARACTERS,
    sizeCalculation: (_, key) => key.length + 1,
  });
  return (key, make) => {
    const known = made.get(key) ?? make();
    made.set(key, known);
    return known;
  };
}

const STANDINGS: Record<Standing, StandingMessage> = {
  none: StandingMessage.NONE,
  suspended: StandingMessage.SUSPENDED,
  active: StandingMessage.ACTIVE,
};
