/** Rights as access tells them, with how old they may be: access answers from memory, too. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { CallOptions, Client } from "@connectrpc/connect";
import type { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { CONSISTENCY_HEADER, fromConsistencyToken, toConsistencyToken } from "./revisions.ts";
import { unpackRights } from "./rights.ts";
import type { LoadRights } from "./rights-cache.ts";

/** Asks with these options. Rejects as GetUserPermissions does. */
export function askAccess(
  access: Pick<Client<typeof AccessInternalService>, "getUserPermissions">,
  options: Pick<CallOptions, "timeoutMs"> = {},
): LoadRights {
  return async (subject, wanted, signal) => {
    const headers = { [CONSISTENCY_HEADER]: toConsistencyToken(wanted) };
    const { rights, consistencyToken, age } = await access.getUserPermissions(subject, { ...options, signal, headers });
    return { ...unpackRights(rights, fromConsistencyToken(consistencyToken)), ageMs: age && durationMs(age) };
  };
}
