-- Who does for this service what one process should do at a time, until when. A holder that stands still loses it without being
-- asked, so whatever rests on it must bear two at once (src/feed/leases.ts).
CREATE TABLE feed_lease (
  name text PRIMARY KEY,
  holder text NOT NULL,
  until timestamptz NOT NULL
);
