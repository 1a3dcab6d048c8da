/** The RPCs of the contract of before: unpack, call one domain function, pack. */
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AuthService as LegacyAuthService } from "../../../gen/auth/auth_service_pb.ts";
import { toConsistencyToken } from "../../rights/revisions.ts";
import { holds } from "../../rights/rights.ts";
import { scopeOf } from "../../rpc/call.ts";
import { implement } from "../../service.ts";
import { getOrganization, rightsOfMember } from "./legacy-answers.ts";
import type { AuthContext } from "./service.ts";
import { requireToken } from "./token-verifications.ts";

export function legacyHandlers(auth: AuthContext) {
  return implement(LegacyAuthService, {
    async verifyToken({ token }, context) {
      const { claims, card, organizationId, rights, freshAt, revisions } = await requireToken(auth, context, token);
      const { email, firstName, lastName, status } = card;
      const branches = [...(rights?.branches ?? [])];
      return {
        ...{ userId: claims.userId, organizationId, email, active: status === "active", firstName, lastName },
        permissions: [...(rights?.permissions ?? [])],
        locals: branches.map(([branchId]) => branchId),
        localPermissions: branches
          .filter(([, permissions]) => permissions.size > 0)
          .map(([localId, permissions]) => ({ localId, permissions: [...permissions] })),
        freshAt: timestampFromDate(freshAt),
        consistencyToken: toConsistencyToken(revisions),
        expiresAt: timestampFromMs(claims.expiresAt * 1_000),
      };
    },
    async getUserPermissions(request, context) {
      const { permissions, branches } = await rightsOfMember(auth, scopeOf(context), request);
      return { permissions: [...permissions], locals: [...branches.keys()] };
    },
    async getUserLocals(request, context) {
      const { branches } = await rightsOfMember(auth, scopeOf(context), request);
      return { localIds: [...branches.keys()] };
    },
    async checkPermission({ permission, ...subject }, context) {
      return { hasPermission: holds(await rightsOfMember(auth, scopeOf(context), subject), permission) };
    },
    async getOrganization({ organizationId }, context) {
      return getOrganization(auth, scopeOf(context), organizationId);
    },
  });
}
