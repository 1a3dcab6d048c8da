/**
 * Owners of rights in a few lines, access and organization in one: what they hold, what they answer, and their feeds; they can be
 * restored to an earlier state. Processes ask them and follow them, each with a connection to Redis of its own.
 */
import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { PermissionGrantedSchema, RoleChangedSchema } from "../../gen/concierge/access/v1/access_events_pb.ts";
import { type Event, EventSchema, ReadResponseSchema } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { MemberRemovedSchema } from "../../gen/concierge/organization/v1/organization_events_pb.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { Code, fail } from "../../src/errors.ts";
import type { FeedReader } from "../../src/feed/live-follower.ts";
import { openRedis, type Redis } from "../../src/redis.ts";
import { mergeRevisions, type Revisions, revision, subjectOf } from "../../src/rights/revisions.ts";
import { noRights, type Rights, type Subject, setOf } from "../../src/rights/rights.ts";
import { type RightsWatch, watchRights } from "../../src/rights/rights-watch.ts";
import { openSharedRights, type SharedRights } from "../../src/rights/shared-rights.ts";
import type { SimpleLog } from "../../src/simple-log.ts";
import { until } from "../../src/testing/until.ts";
import type { ServiceKey } from "../../src/token/service-token.ts";

type Source = "access" | "organization";

interface State {
  /** Whoever holds the permission, as organization/user. */
  granted: ReadonlySet<string>;
  /** Whoever is no member. */
  removed: ReadonlySet<string>;
  /** Organizations in which everybody holds another permission; "": there is one more everywhere. */
  open: ReadonlySet<string>;
  versions: Revisions;
}

export class RightsOwner {
  questions = 0;
  #epoch = 1;
  #events: Record<Source, Event[]> = { access: [], organization: [] };
  #state: State = { granted: new Set(), removed: new Set(), open: new Set(), versions: new Map() };
  readonly #readers = new Set<{ source: Source; epoch: number; position: number }>();

  /** What holds now. */
  rightsOf({ userId, organizationId }: Subject): Rights {
    const { granted, removed, open, versions } = this.#state;
    const revisions = mergeRevisions(
      ...["access/", `access/${organizationId}`, `organization/${organizationId}`].map(
        (subject) => new Map([[subject, versions.get(subject) ?? 0n]]),
      ),
    );
    const name = `${organizationId}/${userId}`;
    if (removed.has(name)) return noRights("none", revisions);
    const held = [
      granted.has(name) && "things:do",
      open.has(organizationId) && "things:see",
      open.has("") && "all:see",
    ];
    const permissions = setOf(held.filter((permission) => permission !== false));
    return { ...noRights("none", revisions), standing: "active", permissions };
  }

  async load(subject: Subject): Promise<Rights> {
    this.questions += 1;
    const rights = this.rightsOf(subject);
    await delay(1);
    return rights;
  }

  /** Gives somebody a permission, or takes it. */
  grant({ userId, organizationId }: Subject): Revisions {
    this.#state = { ...this.#state, granted: toggled(this.#state.granted, `${organizationId}/${userId}`) };
    return this.#tell("access", organizationId, PermissionGrantedSchema, { userId, organizationId });
  }

  /** Removes somebody, or takes them back. */
  remove({ userId, organizationId }: Subject): Revisions {
    this.#state = { ...this.#state, removed: toggled(this.#state.removed, `${organizationId}/${userId}`) };
    return this.#tell("organization", organizationId, MemberRemovedSchema, { userId, organizationId });
  }

  /** Gives everybody in an organization a permission, or takes it; "" is the platform. */
  open(organizationId: string): Revisions {
    this.#state = { ...this.#state, open: toggled(this.#state.open, organizationId) };
    return this.#tell("access", organizationId, RoleChangedSchema, { organizationId, name: "role" });
  }

  get state(): State {
    return this.#state;
  }

  /** Another life, with what was then, and with what is counted from there on. */
  restore(state: State): void {
    this.#epoch += 1;
    this.#state = state;
    this.#events = { access: [], organization: [] };
  }

  /** Resolves when everybody who reads has been handed everything. */
  async untilHeard(): Promise<void> {
    await until("all have heard", () =>
      [...this.#readers].every(
        ({ source, epoch, position }) => epoch === this.#epoch && position === this.#events[source].length,
      ),
    );
  }

  feedOf(source: Source, signal: AbortSignal): FeedReader {
    const reader = { source, epoch: 0, position: 0 };
    this.#readers.add(reader);
    signal.addEventListener("abort", () => this.#readers.delete(reader));
    return {
      read: async ({ from }, options) => {
        const events = this.#events[source];
        const epoch = this.#epoch;
        let position = events.length;
        if (from?.case === "cursor") {
          if (from.value.epoch !== `${epoch}`) throw fail(Code.Aborted, "CURSOR_LOST", "another life");
          position = Number(from.value.position);
          // What a reader comes back from has been heeded.
          Object.assign(reader, { epoch, position });
          if (position === events.length) await delay(3, undefined, { signal: options?.signal });
        }
        const next = { epoch: `${epoch}`, position: BigInt(events.length) };
        return create(ReadResponseSchema, { events: events.slice(position), next, complete: true });
      },
    };
  }

  #tell<Desc extends DescMessage>(
    service: Source,
    organizationId: string,
    desc: Desc,
    fact: MessageInitShape<Desc>,
  ): Revisions {
    const version = (this.#state.versions.get(subjectOf(service, organizationId)) ?? 0n) + 1n;
    const made = revision(service, organizationId, version);
    this.#state = { ...this.#state, versions: mergeRevisions(this.#state.versions, made) };
    const payload = toBinary(desc, create(desc, fact) as MessageShape<Desc>);
    this.#events[service].push(create(EventSchema, { type: desc.typeName, version, payload }));
    return made;
  }
}

function toggled(set: ReadonlySet<string>, name: string): ReadonlySet<string> {
  return set.has(name) ? new Set([...set].filter((each) => each !== name)) : new Set([...set, name]);
}

/** One that asks the owner and follows it, and shares by Redis. */
export interface RightsProcess extends AsyncDisposable {
  watch: RightsWatch;
  shared: SharedRights;
  redis: Redis;
}

export interface RightsProcessOptions {
  url: string;
  keys: readonly ServiceKey[];
  /** For what is stored, and for its age. */
  clock?: Clock;
  log?: SimpleLog;
  /** The longest that Redis is waited for; patient unless told, so that a busy machine is not taken for a silent Redis. */
  timeoutMs?: number;
}

const PATIENT_MS = 5_000;
const SILENT: SimpleLog = { info() {}, warn() {}, error() {} };

/** Started when it follows both feeds and Redis answers, unless there is none. */
export async function startRightsProcess(
  owner: RightsOwner,
  { url, keys, clock = systemClock, log = SILENT, timeoutMs = PATIENT_MS }: RightsProcessOptions,
): Promise<RightsProcess> {
  await using opened = new AsyncDisposableStack();
  const redis = opened.use(await openRedis({ url, shares: "rights", timeoutMs, clock: systemClock, log }));
  const shared = openSharedRights({ redis, keys, clock });
  const ending = new AbortController();
  opened.defer(() => ending.abort());
  const watch = watchRights({
    load: (subject) => owner.load(subject),
    shared,
    feedOf: (source) => owner.feedOf(source, ending.signal),
    clock: systemClock,
    log,
    allowStale: false,
  });
  const following = watch.follow().map((follower) => opened.use(follower));
  await Promise.all(following.map(({ caughtUp }) => caughtUp));
  const resources = opened.move();
  return { watch, shared, redis, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

/** Resolves when Redis answers it. */
export async function untilUp({ redis }: RightsProcess): Promise<void> {
  await until("Redis answers", async () => (await redis.run("return 1", [], [])) === 1);
}
