/** Every variable of access. */
import { peerUrl } from "../../config.ts";
import { databaseConfig, serviceKeysConfig } from "../../service.ts";

export const config = {
  ...databaseConfig,
  ...serviceKeysConfig,
  authUrl: peerUrl("URL of auth's internal listener", { default: "http://127.0.0.1:50051" }),
};
