/** Every variable of greeter. */
import { peerUrl } from "../../config.ts";
import { serviceKeysConfig } from "../../service.ts";

export const config = {
  ...serviceKeysConfig,
  authUrl: peerUrl("URL of auth's internal listener", { default: "http://127.0.0.1:50051" }),
};
