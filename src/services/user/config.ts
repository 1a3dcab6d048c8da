/** Every variable of user. */
import { authPeerConfig, databaseConfig, rightsPeersConfig, serviceKeysConfig } from "../../service.ts";

export const config = {
  ...databaseConfig,
  ...serviceKeysConfig,
  ...authPeerConfig,
  ...rightsPeersConfig,
};
