/** Organizations, kept in memory as long as organization's feed says that they have not changed. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Client, ConnectError } from "@connectrpc/connect";
import { validate as isUuid } from "uuid";
import type { Event } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { OrganizationChangedSchema } from "../../gen/concierge/organization/v1/organization_events_pb.ts";
import type { OrganizationInternalService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { jittered } from "../cache-times.ts";
import type { Clock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import { Answers } from "./answers.ts";
import { type Organization, organizationNotFound, organizationOf } from "./results.ts";

export interface OrganizationsOptions {
  organizations: Pick<Client<typeof OrganizationInternalService>, "getOrganization">;
  /** Monotonic time at which organization's feed was complete. */
  freshAt(): number | undefined;
  clock: Clock;
  freshMs: number;
}

interface KnownOrganization {
  organization: Organization;
  askedAt: number;
}

const KEPT_MS = 300_000;
const MAX_KEPT = 10_000;
const QUESTION_TIMEOUT_MS = 1_000;

export class Organizations {
  readonly #options: OrganizationsOptions;
  readonly #answers: Answers<KnownOrganization>;

  constructor(options: OrganizationsOptions) {
    this.#options = options;
    this.#answers = new Answers({ now: () => options.clock.monotonic(), max: MAX_KEPT });
  }

  /** NOT_FOUND / ORGANIZATION_NOT_FOUND, UNAVAILABLE / AUTH_STALE. */
  async get(organizationId: string): Promise<Organization> {
    if (!isUuid(organizationId)) throw organizationNotFound();
    const id = organizationId.toLowerCase();
    const known = this.#answers.get(id);
    const { organization } = known && this.#isFresh(known) ? known : await this.#answers.ask(id, () => this.#ask(id));
    return { ...organization, modules: [...organization.modules] };
  }

  /** Without events reading has begun anew: what changed in between is not known. */
  heed(events: Event[]): void {
    if (events.length === 0) this.#answers.clear();
    for (const { type, payload } of events) {
      if (type !== OrganizationChangedSchema.typeName) continue;
      this.#answers.forget(fromBinary(OrganizationChangedSchema, payload).organization!.organizationId);
    }
  }

  #isFresh({ askedAt }: KnownOrganization): boolean {
    const { clock, freshAt, freshMs } = this.#options;
    return clock.monotonic() - Math.max(askedAt, freshAt() ?? askedAt) <= freshMs;
  }

  async #ask(organizationId: string) {
    const askedAt = this.#options.clock.monotonic();
    try {
      const { organization } = await this.#options.organizations.getOrganization(
        { organizationId },
        { timeoutMs: QUESTION_TIMEOUT_MS },
      );
      return { value: { organization: organizationOf(organization), askedAt }, keepMs: jittered(KEPT_MS) };
    } catch (cause) {
      if (ConnectError.from(cause).code === Code.NotFound) throw organizationNotFound(cause);
      const message = "the organization could not be looked up";
      throw fail(Code.Unavailable, "AUTH_STALE", message, { cause, retryAfterMs: 1_000 });
    }
  }
}
