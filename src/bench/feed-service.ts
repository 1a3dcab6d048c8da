/** Worker: a process of a service that writes, and, where it is told to, keeps its feed or serves it as services do. */
import { setTimeout as delay } from "node:timers/promises";
import { file_concierge_user_v1_user_events } from "../../gen/concierge/user/v1/user_events_pb.ts";
import { systemClock as clock } from "../clock.ts";
import { loadConfig, type ServiceKey } from "../config.ts";
import { type Db, openDatabase } from "../db/database.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { FeedLog } from "../feed/log.ts";
import { createLogger } from "../log.ts";
import { answerCommands } from "../prove/workers.ts";
import { startServer } from "../server.ts";
import {
  databaseConfig,
  defineService,
  type ServiceContext,
  type ServiceValues,
  serviceKeysConfig,
} from "../service.ts";
import { createSigningKeys } from "../token/key-making.ts";
import { fixedKeyRing } from "../token/key-ring.ts";
import { SERVICE } from "./feed-database.ts";
import { type Beside, saturate, writeSteadily } from "./feed-writers.ts";

const POOL_SIZE = 40;

const log = createLogger({ level: "warn", mode: "production", clock });
let db: Db;
let feed: FeedLog;

answerCommands({
  /** Opens the database, without a feed. */
  open({ url }: { url: string }) {
    db = openDatabase({ url, poolSize: POOL_SIZE, applicationName: "bench" }).db;
  },
  /** Stamps from now on, after its own commits and when others say so. */
  keepFeed({ url }: { url: string }) {
    feed = new FeedLog({ service: SERVICE, url, db, log });
    feed.begin();
  },
  async leaveFeed() {
    await feed[Symbol.asyncDispose]();
  },
  /** The whole server, with this feed on its internal listener. Returns the listener's URL. */
  async serve({ url, key }: { url: string; key: ServiceKey }) {
    const keyRing = fixedKeyRing(await createSigningKeys("ES256"));
    const definition = defineService({
      name: SERVICE,
      ports: { public: 0, internal: 0 },
      config: { ...databaseConfig, ...serviceKeysConfig },
      services: [],
      events: file_concierge_user_v1_user_events,
      peers: {},
      start(context: ServiceContext) {
        ({ db, feed } = context);
        return { implementations: [], users: { keyRing, checkSession: () => true } };
      },
    });
    const env = {
      CONCIERGE_ISSUER: "https://concierge.example",
      CONCIERGE_PUBLIC_PORT: "0",
      CONCIERGE_INTERNAL_PORT: "0",
    };
    const { platform } = loadConfig({
      env,
      readFile: () => "",
      stat: () => ({ mode: 0o600 }),
      services: {},
      start: [],
    });
    const values: ServiceValues = { databaseUrl: url, databasePoolSize: POOL_SIZE, serviceKeys: { keys: [key] } };
    const server = await startServer({
      definitions: [definition],
      platform,
      services: { [SERVICE]: values },
      migrationsFolder: MIGRATIONS_FOLDER,
      clock,
      log,
    });
    await server.ready;
    return server.internalUrl;
  },
  saturate({ beside, writers, durationMs }: { beside: Beside; writers: number; durationMs: number }) {
    return saturate(db, beside, writers, durationMs);
  },
  writeSteadily(load: { perSecond: number; durationMs: number; prefix: string }) {
    return writeSteadily(db, load);
  },
  /** Resolves when nothing waits for a position; returns how long that took. */
  async settled() {
    const start = clock.monotonic();
    while ((await feed.status()).pending > 0) await delay(5);
    return clock.monotonic() - start;
  },
});
