/** Every variable of organization. */
import { peerUrl } from "../../config.ts";
import { authPeerConfig, serviceKeysConfig, tenantDatabaseConfig } from "../../service.ts";

export const config = {
  ...tenantDatabaseConfig,
  ...serviceKeysConfig,
  ...authPeerConfig,
  accessUrl: peerUrl("URL of access's internal listener", { default: "http://127.0.0.1:50052" }),
};
