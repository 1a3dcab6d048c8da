/** Every variable of user. */
import { peerUrl } from "../../config.ts";
import { databaseConfig, serviceKeysConfig } from "../../service.ts";

export const config = {
  ...databaseConfig,
  ...serviceKeysConfig,
  authUrl: peerUrl("URL of auth's internal listener", { default: "http://127.0.0.1:50051" }),
  accessUrl: peerUrl("URL of access's internal listener", { default: "http://127.0.0.1:50052" }),
};
