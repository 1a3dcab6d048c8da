/** Every variable of notification. */
import { authPeerConfig, databaseConfig, serviceKeysConfig } from "../../service.ts";

export const config = {
  ...databaseConfig,
  ...serviceKeysConfig,
  ...authPeerConfig,
};
