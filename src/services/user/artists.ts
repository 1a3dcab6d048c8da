/** Artists: what everybody may know of them, and they themselves may change. Their links are shown and never fetched. */
import { isDeepStrictEqual } from "node:util";
import { eq, sql } from "drizzle-orm";
import { transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { artistUpdated } from "./events.ts";
import { findOrMakeProfile, type Profile } from "./profiles.ts";
import { artists } from "./schema.ts";
import type { UserContext } from "./service.ts";

export type Artist = typeof artists.$inferSelect;

/** An artist, and since when there is one. */
export type ArtistSince = Artist & Pick<Profile, "createdAt">;

/** An artist by id. NOT_FOUND / ARTIST_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE for somebody not heard of. */
export async function getArtist(context: UserContext, scope: CallScope, userId: string): Promise<ArtistSince> {
  const profile = await findOrMakeProfile(context, scope, userId);
  if (!profile?.artist) throw fail(Code.NotFound, "ARTIST_NOT_FOUND", "there is no such artist");
  return { ...profile.artist, createdAt: profile.createdAt };
}

/** Changes the artist who calls; tells of it if anything is different then. PERMISSION_DENIED / NOT_AN_ARTIST. */
export async function updateArtist(
  context: UserContext,
  scope: CallScope,
  { userId }: Person,
  changes: Partial<Pick<Artist, "stageName" | "bio" | "genres" | "links">>,
): Promise<ArtistSince> {
  const profile = await findOrMakeProfile(context, scope, userId);
  if (!profile?.artist) throw notAnArtist();
  const isArtist = eq(artists.userId, userId);
  const artist = await transaction(
    context.db,
    async (tx) => {
      const [before] = await tx.select().from(artists).where(isArtist).for("no key update");
      if (!before) throw notAnArtist();
      const after = { ...before, ...changes };
      if (isDeepStrictEqual(before, after)) return after;
      await tx
        .update(artists)
        .set({ ...changes, updatedAt: sql`concierge_now()` })
        .where(isArtist);
      await emit(tx, [artistUpdated(after)]);
      return after;
    },
    { signal: scope.signal },
  );
  return { ...artist, createdAt: profile.createdAt };
}

function notAnArtist() {
  return fail(Code.PermissionDenied, "NOT_AN_ARTIST", "only artists have an artist's profile");
}
