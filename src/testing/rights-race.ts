/**
 * R-CON-06: answers about rights that are on their way while the rights change, each told only after the change is known; the same with
 * answers that are shared, of which old ones come back.
 */
import { mergeRevisions, revision } from "../rights/revisions.ts";
import { holds, noRights, type Rights, setOf } from "../rights/rights.ts";
import { RightsCache, type SharedAnswers } from "../rights/rights-cache.ts";
import { Random } from "./seeded.ts";

const PERMISSION = "things:do";
const subject = { userId: "anne", organizationId: "bakery" };
const OLDEST_SHARED = 4;

/** Resolves to the number of wrong answers, told or kept, in so many rounds. */
export async function raceFills(rounds: number, { isShared = false } = {}): Promise<number> {
  let owned = 0n;
  let wrong = 0;
  const told: (() => void)[] = [];
  // Read now, and told later.
  const tellLater = (version: bigint) => {
    const { promise, resolve } = Promise.withResolvers<Rights>();
    told.push(resolve.bind(undefined, rightsAt(version)));
    return promise;
  };
  const random = new Random(rounds);
  const shared: SharedAnswers = {
    find: () => tellLater(owned - BigInt(random.below(Math.min(OLDEST_SHARED, Number(owned) + 1)))),
    store() {},
    isFresh: () => true,
  };
  const load = () => tellLater(owned);
  const cache = new RightsCache({ load, shared: isShared ? shared : undefined, now: () => 0 });
  const judge = ({ rights }: { rights: Rights }) => {
    if (holds(rights, PERMISSION) !== isHeldAt(owned)) wrong += 1;
  };
  for (let round = 0; round < rounds; round++) {
    let isAnswered = false;
    const asked = cache.ask(subject).finally(() => {
      isAnswered = true;
    });
    owned += 1n;
    const userId = round % 2 === 0 ? subject.userId : undefined;
    cache.change({ service: "access", organizationId: subject.organizationId, userId, version: owned });
    while (!isAnswered) {
      for (const tell of told.splice(0)) tell();
      await Promise.resolve();
      // At every moment, for whoever looks just then.
      const kept = cache.get(subject);
      if (kept) judge(kept);
    }
    judge(await asked);
  }
  return wrong;
}

/** The owner's answer at a revision. */
function rightsAt(version: bigint): Rights {
  const revisions = mergeRevisions(revision("access", subject.organizationId, version), revision("access", "", 0n));
  const permissions = setOf(isHeldAt(version) ? [PERMISSION] : []);
  return { ...noRights("none", revisions), standing: "active", permissions };
}

function isHeldAt(version: bigint): boolean {
  return version % 2n === 0n;
}
