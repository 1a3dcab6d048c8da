/**
 * Every error of this project carries its reason (google.rpc.ErrorInfo); the suite compares error details exactly and knows
 * none of ours. So in these programs, and only here, errors keep their reason to themselves; everything else of an error is
 * as in production.
 */
import { ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.ts";

type Detail = ConnectError["details"][number];

/** A list of details that takes in everything but reasons. */
class DetailsWithoutReason extends Array<Detail> {
  override push(...details: Detail[]): number {
    return super.push(...details.filter((detail) => !("desc" in detail) || detail.desc !== ErrorInfoSchema));
  }
}

/** From now on no error in this process carries a reason. */
export function keepReasonsBack(): void {
  const details = new WeakMap<ConnectError, Detail[]>();
  Object.defineProperty(ConnectError.prototype, "details", {
    get(this: ConnectError) {
      return details.get(this);
    },
    set(this: ConnectError, given: Detail[]) {
      const kept = new DetailsWithoutReason();
      kept.push(...given);
      details.set(this, kept);
    },
  });
}
