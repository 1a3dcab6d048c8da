/**
 * Connections to the services of an installation, each made when it is needed. Feeds and snapshots are read over connections of their own:
 * those who follow decide themselves when to ask again, whatever breakers say, and a call that hangs must not cost them theirs.
 */
import type { DescService } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import type { SimpleLog } from "../simple-log.ts";
import type { ServiceKey } from "../token/service-token.ts";
import { carryConsistency, type SeenRevisions } from "./consistency.ts";
import type { BreakerState, ResilienceOptions } from "./resilience.ts";
import { connectService, type ServiceConnection } from "./service-client.ts";

/** Where internal listeners are: one address for all services, or one for each. */
export type ServiceUrls = string | { auth: string; access: string; organization: string; [service: string]: string };

export interface ConnectionsOptions {
  url: ServiceUrls;
  keys: ReadonlyMap<string, ServiceKey>;
  ca?: string;
  clock: Clock;
  seen: SeenRevisions;
  /** Of calls. */
  resilience: ResilienceOptions;
  log: SimpleLog;
}

/** "concierge.organization.v1.OrganizationInternalService" is served by organization, the contract of before by auth. */
const SERVICE = /^concierge\.([a-z_]+)\.v[0-9]+\./;
const LEGACY = "auth.AuthService";

export class Connections implements Disposable {
  readonly #options: ConnectionsOptions;
  readonly #calls = new Map<string, ServiceConnection>();
  readonly #feeds = new Map<string, ServiceConnection>();

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** A client for calls. Throws a TypeError if there is no key or no address for its service. */
  client<Desc extends DescService>(desc: Desc): Client<Desc> {
    const { seen, resilience, log } = this.#options;
    const service = serviceOf(desc);
    const connect = () =>
      connectService({
        ...this.#target(service),
        interceptors: [carryConsistency(seen)],
        resilience: { ...resilience, name: service, log },
      });
    return opened(this.#calls, service, connect).client(desc);
  }

  /** A client for those who follow a service. */
  follower<Desc extends DescService>(desc: Desc, service: string): Client<Desc> {
    return opened(this.#feeds, service, () => connectService(this.#target(service))).client(desc);
  }

  /** How the breaker of each service is that was called. */
  breakers(): Record<string, BreakerState> {
    return Object.fromEntries([...this.#calls].map(([service, { breaker }]) => [service, breaker!]));
  }

  /** Where a service is. */
  urlOf(service: string): string {
    const { url } = this.#options;
    const found = typeof url === "string" ? url : url[service];
    if (found === undefined) throw new TypeError(`url: there is none for ${service}`);
    return found;
  }

  [Symbol.dispose](): void {
    for (const connection of [...this.#calls.values(), ...this.#feeds.values()]) connection[Symbol.dispose]();
  }

  #target(service: string) {
    const { keys, ca, clock } = this.#options;
    const key = keys.get(service);
    if (!key) throw new TypeError(`keys: there is none for calls of ${service}`);
    return { baseUrl: this.urlOf(service), key, ca, clock };
  }
}

function opened(
  connections: Map<string, ServiceConnection>,
  service: string,
  connect: () => ServiceConnection,
): ServiceConnection {
  const connection = connections.get(service) ?? connect();
  connections.set(service, connection);
  return connection;
}

function serviceOf({ typeName }: DescService): string {
  const name = typeName === LEGACY ? "auth" : SERVICE.exec(typeName)?.[1];
  if (name === undefined) throw new TypeError(`${typeName} is no service of Concierge`);
  return name.replaceAll("_", "-");
}
