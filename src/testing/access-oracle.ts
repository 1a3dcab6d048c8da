/**
 * What access must decide, said a second time and as plainly as possible: everything in a few lists, every question answered by going
 * through them. Nothing of the services' code is used here.
 */

export type Sort = "owner" | "admin" | "member";

/** A role, or one permission, that somebody has everywhere or in one branch. */
export interface OracleGift {
  user: string;
  role?: string;
  permission?: string;
  /** Empty for all branches. */
  branch: string;
}

export class AccessOracle {
  isActive = true;
  readonly members = new Map<string, Sort>();
  /** Permissions of each role. */
  readonly roles = new Map<string, string[]>();
  /** Whether each branch is open. */
  readonly branches = new Map<string, boolean>();
  gifts: OracleGift[] = [];

  /** Whether a person holds a permission in the whole organization, or in a branch; undefined for who is no member. */
  allows(user: string, permission: string, branch: string): boolean | undefined {
    const sort = this.members.get(user);
    if (sort === undefined) return undefined;
    if (!this.isActive || (branch !== "" && !this.branches.get(branch))) return false;
    const counting = this.gifts.filter((gift) => gift.user === user && (gift.branch === "" || gift.branch === branch));
    if (branch !== "" && sort === "member" && counting.length === 0) return false;
    if (comesWith(sort, permission)) return true;
    return counting.some((gift) => gift.permission === permission || this.roles.get(gift.role!)?.includes(permission));
  }

  /** What is given twice is there once. */
  give(gift: OracleGift): void {
    this.take(gift);
    this.gifts.push(gift);
  }

  take({ user, role, permission, branch }: OracleGift): void {
    this.gifts = this.gifts.filter((gift) => {
      return gift.user !== user || gift.role !== role || gift.permission !== permission || gift.branch !== branch;
    });
  }

  remove(user: string): void {
    this.members.delete(user);
    this.gifts = this.gifts.filter((gift) => gift.user !== user);
  }

  deleteRole(role: string): void {
    this.roles.delete(role);
    this.gifts = this.gifts.filter((gift) => gift.role !== role);
  }
}

function comesWith(sort: Sort, permission: string): boolean {
  if (sort === "owner") return true;
  if (sort === "admin") return permission !== "organization:delete" && permission !== "organization:transfer";
  return ["branches:read", "members:read", "organization:read"].includes(permission);
}
