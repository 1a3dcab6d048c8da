/** The two paths of before, in front of the contract of before: for clients that cannot speak any protocol of RPCs just now. */
import { create } from "@bufbuild/protobuf";
import { GetUserLocalsRequestSchema, AuthService as LegacyAuthService } from "../../../gen/auth/auth_service_pb.ts";
import { type RestRoute, restRoute } from "../../rpc/rest.ts";

const { verifyToken, getUserLocals } = LegacyAuthService.method;

/** Names the organization that is asked about. It says nothing of who asks, and gives no right. */
const TENANT_HEADER = "x-tenant-id";

export const restRoutes: RestRoute[] = [
  restRoute({
    path: /^\/auth\/verify$/,
    method: verifyToken,
    answer: ({ userId, organizationId, email, active, permissions, locals }) => ({
      user_id: userId,
      organization_id: organizationId,
      email,
      is_active: active,
      permissions,
      locals,
    }),
  }),
  restRoute({
    path: /^\/api\/v1\/users\/([^/?#]+)\/locals$/,
    method: getUserLocals,
    read(path, [userId = ""], headers) {
      const organizationId = String(headers[TENANT_HEADER] ?? "");
      const request = create(GetUserLocalsRequestSchema, { userId, organizationId });
      return { request, signed: `${path}\n${organizationId}` };
    },
    answer: ({ localIds }) => ({ locals: localIds.map((id) => ({ id })) }),
  }),
];
