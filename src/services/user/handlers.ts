/** user's RPCs: unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { UserInternalService, UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { scopeOf, userOf } from "../../rpc/call.ts";
import { requireRecentLogin } from "../../rpc/recent-login.ts";
import { implement } from "../../service.ts";
import { exportProfile, getMe, getUser, type User } from "./profiles.ts";
import type { UserContext } from "./service.ts";

export function userHandlers(user: UserContext) {
  return [
    implement(UserService, {
      async getMe(_, context) {
        return { user: packUser(await getMe(user, scopeOf(context), userOf(context).userId)) };
      },
      async exportMyData(_, context) {
        requireRecentLogin(context, user.clock);
        return { document: await exportProfile(user, scopeOf(context), userOf(context).userId) };
      },
    }),
    implement(UserInternalService, {
      async getUser({ userId }, context) {
        return { user: packUser(await getUser(user, scopeOf(context), userId)) };
      },
    }),
  ];
}

function packUser({ userId, email, firstName, lastName, roles, locale, createdAt }: User) {
  return { userId, email, firstName, lastName, roles, locale, createdAt: timestampFromDate(createdAt) };
}
