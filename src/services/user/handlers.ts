/** user's RPCs: unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import {
  UpdateArtistRequestSchema,
  UpdateUserRequestSchema,
  UserInternalService,
  UserService,
} from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { scopeOf, userOf } from "../../rpc/call.ts";
import { changesOf } from "../../rpc/field-mask.ts";
import { requireRecentLogin } from "../../rpc/recent-login.ts";
import { implement } from "../../service.ts";
import { type ArtistSince, getArtist, updateArtist } from "./artists.ts";
import {
  exportProfile,
  getMe,
  getUser,
  getUsers,
  getVisibleUser,
  type Profile,
  type User,
  updateUser,
} from "./profiles.ts";
import type { UserContext } from "./service.ts";

export function userHandlers(user: UserContext) {
  return [
    implement(UserService, {
      async getMe(_, context) {
        return { user: packUser(await getMe(user, scopeOf(context), userOf(context))) };
      },
      async getUser({ userId }, context) {
        return { user: packUser(await getVisibleUser(user, scopeOf(context), userOf(context), userId)) };
      },
      async updateUser(request, context) {
        const person = userOf(context);
        const changes = changesOf(UpdateUserRequestSchema, request, ["user_id"]);
        const userId = request.userId || person.userId;
        return { user: packUser(await updateUser(user, scopeOf(context), person, userId, changes)) };
      },
      async getArtist({ userId }, context) {
        return { artist: packArtist(await getArtist(user, scopeOf(context), userId)) };
      },
      async updateArtist(request, context) {
        const changes = changesOf(UpdateArtistRequestSchema, request);
        return { artist: packArtist(await updateArtist(user, scopeOf(context), userOf(context), changes)) };
      },
      async exportMyData(_, context) {
        requireRecentLogin(context, user.clock);
        return { document: await exportProfile(user, scopeOf(context), userOf(context)) };
      },
    }),
    implement(UserInternalService, {
      async getUser({ userId }, context) {
        return { user: packUser(await getUser(user, scopeOf(context), userId)) };
      },
      async batchGetUsers({ userIds }, context) {
        const users = await getUsers(user, scopeOf(context), userIds);
        return { users: users.map(packUser) };
      },
    }),
  ];
}

function packUser({ userId, kind, email, firstName, lastName, roles, locale, createdAt, artist }: User) {
  return {
    ...{ userId, email, firstName, lastName, roles, locale, kind: packKind(kind) },
    createdAt: timestampFromDate(createdAt),
    ...(artist && { artist: packArtist({ ...artist, createdAt }) }),
  };
}

function packArtist({ userId, stageName, bio, genres, links, createdAt }: ArtistSince) {
  return { userId, stageName, bio, genres, links, createdAt: timestampFromDate(createdAt) };
}

function packKind(kind: Profile["kind"]): AccountKind {
  switch (kind) {
    case "user":
      return AccountKind.USER;
    case "artist":
      return AccountKind.ARTIST;
  }
}
