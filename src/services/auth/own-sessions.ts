/**
 * How auth knows which sessions have ended without asking its database for each token: as every other service does, by its own feed. What
 * it is asked to do itself, it decides on its database all the same.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  CheckSessionResponseSchema,
  ListEndedSessionsResponseSchema,
} from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { ownFeed } from "../../feed/handlers.ts";
import type { Logger } from "../../log.ts";
import { followSessions, type SessionWatch } from "../../token/freshness.ts";
import { type EndedSessionsPage, listEndedSessions } from "./ended-sessions.ts";
import type { AuthContext } from "./service.ts";

type Own = Pick<AuthContext, "feed" | "clock" | "isLive" | "ownKeys">;

/** Starts to follow them. Disposing stops it. */
export function followOwnSessions(auth: Own, log: Logger): SessionWatch {
  const { feed, clock, isLive, ownKeys } = auth;
  return followSessions({
    feed: ownFeed(feed),
    auth: {
      async checkSession({ sessionId, generation }, { signal }) {
        return create(CheckSessionResponseSchema, { live: await isLive(sessionId, generation, signal) });
      },
      async listEndedSessions({ pageToken }, { signal }) {
        const page = await listEndedSessions(auth, signal, { pageSize: 0, pageToken });
        return create(ListEndedSessionsResponseSchema, packEndedSessions(page));
      },
    },
    clock,
    log,
    allowStale: false,
    onKeyRemoved: (kid) => ownKeys.remove(kid),
  });
}

export function packEndedSessions({
  sessions,
  ...page
}: EndedSessionsPage): MessageInitShape<typeof ListEndedSessionsResponseSchema> {
  const packed = sessions.map(({ sessionId, tokensExpireAt }) => {
    return { sessionId, tokensExpireAt: timestampFromDate(tokensExpireAt) };
  });
  return { ...page, sessions: packed };
}
