/** Every variable of access. */
import { peerUrl } from "../../config.ts";
import { authPeerConfig, serviceKeysConfig, tenantDatabaseConfig } from "../../service.ts";

export const config = {
  ...tenantDatabaseConfig,
  ...serviceKeysConfig,
  ...authPeerConfig,
  organizationUrl: peerUrl("URL of organization's internal listener", { default: "http://127.0.0.1:50053" }),
};
