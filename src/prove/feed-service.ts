/**
 * Worker: one process of a service with a feed. It has what such a process has (a pool, the feed that is kept stamped, the
 * feed's RPCs on a socket) and fifty writers instead of callers. Who calls it is believed: tokens are no part of this proof.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import type { Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ReadersSchema } from "../../gen/concierge/options/v1/readers_pb.ts";
import { openDatabase } from "../db/database.ts";
import { feedHandlers } from "../feed/handlers.ts";
import { FeedLog } from "../feed/log.ts";
import { createLogger } from "../log.ts";
import { type Call, callKey } from "../rpc/call.ts";
import { fateCommands } from "./fate.ts";
import { FOLLOWER, SOURCE } from "./feed-tables.ts";
import { startWriters, WRITERS, type Writers, type WritersOptions } from "./feed-writers.ts";
import { answerCommands } from "./workers.ts";

export interface ServiceOptions extends WritersOptions {
  databaseUrl: string;
}

let writers: Writers | undefined;

async function start(options: ServiceOptions): Promise<string> {
  const { databaseUrl: url } = options;
  const { db } = openDatabase({ url, poolSize: WRITERS, applicationName: `prove/feed ${options.slot}` });
  const feed = new FeedLog({ service: SOURCE, url, db, log: createLogger({ level: "warn", mode: "development" }) });
  feed.begin();
  const publicUrl = await serve(feed);
  writers = startWriters(db, options);
  return publicUrl;
}

/** Serves the feed on a free port, and resolves to its URL. */
async function serve(log: FeedLog): Promise<string> {
  const readers = new Map([[StringValueSchema.typeName, create(ReadersSchema, { services: [FOLLOWER] })]]);
  const served = { log, readers, isStarted: () => true, following: () => Promise.resolve([]) };
  const { desc, implementation } = feedHandlers(new Map([[SOURCE, served]]));
  const asFollower: Interceptor = (next) => (request) => {
    request.contextValues.set(callKey, { caller: { kind: "service", name: FOLLOWER, callee: SOURCE } } as Call);
    return next(request);
  };
  const routes = connectNodeAdapter({
    routes: (router) => void router.service(desc, implementation),
    interceptors: [asFollower],
  });
  const server = createServer(routes);
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

answerCommands({
  ...fateCommands,
  start,
  pace: ({ maxPauseMs }: { maxPauseMs: number }) => writers?.pace(maxPauseMs),
  stopWriting: () => writers?.stop(),
});
