/** Every variable of notification. */
import { z } from "zod";
import { setting } from "../../config.ts";
import { authPeerConfig, databaseConfig, rightsPeersConfig, serviceKeysConfig } from "../../service.ts";

export const config = {
  ...databaseConfig,
  ...serviceKeysConfig,
  ...authPeerConfig,
  ...rightsPeersConfig,
  recipientsPerMinute: setting(
    z.coerce.number().int().min(1).max(100_000_000).default(60_000),
    "Recipients a minute for one organization, or one caller without any; at once two minutes' worth, or 10,000 if that is more",
  ),
  maxTries: setting(
    z.coerce.number().int().min(1).max(100).default(10),
    "Failed pushes to a recipient before it is given up",
  ),
  keepDays: setting(
    z.coerce.number().int().min(0).max(36_500).default(365),
    "Days for which notifications are kept, also in inboxes and as dead letters; 0 keeps them for ever",
  ),
};
