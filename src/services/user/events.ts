/** What user publishes. All about one person has one subject, so it is read in the order it happened. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  ArtistCreatedSchema,
  ArtistUpdatedSchema,
  UserCreatedSchema,
  UserDeletedSchema,
  UserUpdatedSchema,
} from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";
import type { Artist } from "./artists.ts";
import type { Profile } from "./profiles.ts";

/** UserCreated or ArtistCreated: exactly one of them tells of a profile. */
export function profileCreated({ artist, ...profile }: Profile): OutboxEvent {
  const { userId, email, firstName, lastName, locale, createdAt } = profile;
  const fact = { userId, email, firstName, lastName, locale, createdAt: timestampFromDate(createdAt) };
  if (!artist) return event(UserCreatedSchema, subjectOf(profile), fact);
  return event(ArtistCreatedSchema, subjectOf(profile), { ...fact, stageName: artist.stageName });
}

export function userUpdated(profile: Omit<Profile, "artist">): OutboxEvent {
  const { userId, firstName, lastName, locale } = profile;
  return event(UserUpdatedSchema, subjectOf(profile), { userId, firstName, lastName, locale });
}

export function artistUpdated(artist: Artist): OutboxEvent {
  const { userId, stageName, bio, genres, links } = artist;
  return event(ArtistUpdatedSchema, subjectOf(artist), { userId, stageName, bio, genres, links });
}

/** For good. */
export function userDeleted(userId: string): OutboxEvent {
  return event(UserDeletedSchema, subjectOf({ userId }), { userId });
}

/** `userId` as the database writes it: one person is one subject, however a request spells the UUID. */
function subjectOf({ userId }: { userId: string }): string {
  return `user/${userId}`;
}
