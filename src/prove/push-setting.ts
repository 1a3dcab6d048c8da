/**
 * What proofs and benchmarks of pushes run on: a PostgreSQL of their own, the push stand-in in a process of its own, and
 * processes of notification and of its sender, each in a place where it may be killed and started again. What notification
 * asks of other services is answered by one more process, which nobody kills.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Client } from "@connectrpc/connect";
import type { Sql } from "postgres";
import { v7 as uuidv7 } from "uuid";
import { NotificationInternalService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import { connect } from "../db/connection.ts";
import { createServiceAccount, identityOf } from "../dev/push-stand-in-account.ts";
import { peerVariables, systemVariables } from "../dev/variables.ts";
import type { ServiceDefinition } from "../service.ts";
import { notification } from "../services/notification/service.ts";
import type { ServiceAccountKey } from "../services/notification-sender/push-credentials.ts";
import { notificationSender } from "../services/notification-sender/service.ts";
import { services } from "../services.ts";
import { CLUSTER_VARIABLE, startTestCluster, testDatabase } from "../testing/cluster.ts";
import { createServiceKey, createSigningKeys, createTokenKeys, pairsOf } from "../token/key-making.ts";
import { Member } from "./members.ts";
import type { StandInTask } from "./push-stand-in.ts";
import type { Replica, ReplicaTask } from "./replica.ts";
import { startWorker, type Worker } from "./workers.ts";

export type PushMember = Member<"notification" | "sender">;

export interface PushSetting {
  /** Owner's connections to notification's database. */
  sql: Sql;
  /** Where the stand-in is, and what it takes for Google's key. */
  push: { endpoint: string; key: ServiceAccountKey; ledgerFile: string };
  /** They run. */
  notifications: PushMember[];
  /** They do not run yet. Each calls one of notification's processes. */
  senders: PushMember[];
  /** A backend's, one for each of notification's processes. */
  clients: Client<typeof NotificationInternalService>[];
}

export interface PushSettingOptions {
  notifications: number;
  senders: number;
  /** Most recipients that a sender claims at once, and how many such batches it has under way: as usual, if not told. */
  batchSize?: number;
  lanes?: number;
}

const PROJECT = "concierge-push";

/** Opens it; `opened` closes it. */
export async function openPushSetting(options: PushSettingOptions, opened: AsyncDisposableStack): Promise<PushSetting> {
  const { adminUrl } = opened.use(await startTestCluster());
  process.env[CLUSTER_VARIABLE] = adminUrl;
  const folder = await mkdtemp(join(tmpdir(), "concierge-pushes-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const push = await openStandIn(join(folder, "ledger.jsonl"), opened);
  const asked = askedBy(notification);
  const { variables, ownerUrl, backend: key } = await variablesOf([...asked, notification], push, options, opened);
  const sql = connect(ownerUrl, { applicationName: "concierge-prove" });
  opened.defer(() => sql.end({ timeout: 1 }));
  const askedUrl = await startAsked(asked, variables, opened);
  const start = async (member: PushMember): Promise<Worker> => {
    const { kind, slot, url } = member;
    const worker = startWorker("replica", { errorFile: join(folder, "errors") });
    const [definition, peerUrl] =
      kind === "sender"
        ? [notificationSender, notifications[slot % notifications.length]!.url!]
        : [notification, askedUrl];
    const own = {
      ...peerVariables(definition, () => peerUrl),
      ...(url && { CONCIERGE_INTERNAL_PORT: new URL(url).port }),
    };
    const task: ReplicaTask = { services: [definition.name], variables: { ...variables, ...own } };
    member.url = (await worker.call<Replica>("start", task)).internalUrl;
    return worker;
  };
  const places = (kind: PushMember["kind"], count: number) =>
    Array.from({ length: count }, (_, slot) => opened.use(new Member(kind, slot, start)));
  const notifications = places("notification", options.notifications);
  for (const member of notifications) await member.start();
  const clients = notifications.map(({ url }) => {
    return opened.use(connectService({ baseUrl: url!, key, clock })).client(NotificationInternalService);
  });
  return { sql, push, notifications, senders: places("sender", options.senders), clients };
}

async function openStandIn(ledgerFile: string, opened: AsyncDisposableStack): Promise<PushSetting["push"]> {
  const key = await createServiceAccount(PROJECT);
  const task: StandInTask = { ledgerFile, serviceAccount: identityOf(key), projectId: PROJECT };
  const endpoint = await opened.use(startWorker("push-stand-in")).call<string>("start", task);
  return { endpoint, key, ledgerFile };
}

/** Whom it calls, and whom these call. */
function askedBy(definition: ServiceDefinition): ServiceDefinition[] {
  const found = new Set<ServiceDefinition>();
  const add = ({ peers }: ServiceDefinition) => {
    for (const peer of services) {
      if (!(peer.name in peers) || found.has(peer)) continue;
      found.add(peer);
      add(peer);
    }
  };
  add(definition);
  return [...found];
}

/** Of all processes, with databases for those services that store something. */
async function variablesOf(
  stored: ServiceDefinition[],
  push: PushSetting["push"],
  { batchSize, lanes }: PushSettingOptions,
  opened: AsyncDisposableStack,
) {
  const databases = Object.fromEntries(
    await Promise.all(
      stored.map(async ({ name }) => [name, opened.use(await testDatabase(["platform", name]))] as const),
    ),
  );
  const backend = createServiceKey("backend", notification.name, "backend");
  const serviceKeys = [
    ...pairsOf(services).map(({ caller, callee }) => createServiceKey(caller, callee, "service")),
    backend,
  ];
  const parts = {
    definitions: services,
    ...{ databases, serviceKeys },
    signingKeys: await createSigningKeys("ES256"),
    tokenKeys: createTokenKeys(),
    push: { credentials: JSON.stringify(push.key), endpoint: push.endpoint },
  };
  const variables = {
    ...systemVariables(parts),
    // Production takes no stand-in.
    CONCIERGE_MODE: "development",
    CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false",
    // An empty variable is none.
    CONCIERGE_NOTIFICATION_SENDER_BATCH_SIZE: String(batchSize ?? ""),
    CONCIERGE_NOTIFICATION_SENDER_LANES: String(lanes ?? ""),
  };
  return { variables, ownerUrl: databases[notification.name]!.ownerUrl, backend };
}

async function startAsked(
  asked: ServiceDefinition[],
  variables: Record<string, string>,
  opened: AsyncDisposableStack,
): Promise<string> {
  const task: ReplicaTask = { services: asked.map(({ name }) => name), variables };
  return (await opened.use(startWorker("replica")).call<Replica>("start", task)).internalUrl;
}

/** People with a device each; returns their ids. */
export async function addPeople(sql: Sql, count: number): Promise<string[]> {
  const people = Array.from({ length: count }, () => uuidv7());
  await sql`
    insert into devices (id, user_id, token, token_hash, platform)
    select id, id, 'phone ' || id, encode(sha256(('phone ' || id)::bytea), 'hex'), 'android' from unnest(${people}::uuid[]) id`;
  return people;
}

/** The registration token of somebody's device. */
export function tokenOf(userId: string): string {
  return `phone ${userId}`;
}
