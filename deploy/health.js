/**
 * The image's health check: whether this container's service answers calls, as the internal listener says. Apart from
 * main.ts, because it runs every few seconds and need not load anything of it.
 */
import { get as getOverHttp } from "node:http";
import { get as getOverHttps } from "node:https";

const { CONCIERGE_INTERNAL_PORT: port, CONCIERGE_TLS_CERTIFICATE_PATH: certificate } = process.env;
const options = { host: "127.0.0.1", port, path: "/readyz", timeout: 3_000, agent: false };
// To itself: a certificate need not be good for 127.0.0.1.
const request = certificate
  ? getOverHttps({ ...options, rejectUnauthorized: false }, answered)
  : getOverHttp(options, answered);
request.on("timeout", () => request.destroy());
request.on("error", () => {
  process.exitCode = 1;
});

async function answered(response) {
  // Kept by `docker inspect`, for whoever wonders why.
  for await (const text of response.setEncoding("utf8")) process.stdout.write(text);
  if (response.statusCode !== 200) process.exitCode = 1;
}
