/** Every variable of greeter. */
import { authPeerConfig, serviceKeysConfig } from "../../service.ts";

export const config = {
  ...serviceKeysConfig,
  ...authPeerConfig,
};
