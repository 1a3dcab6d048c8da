/** Waits until every container of `make up` is healthy, and says where the system is; or names those that are not. */
import { execFileSync } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";

const PATIENCE_MS = 120_000;
const OURS = ["--filter", "label=com.docker.compose.project=concierge"];

function unhealthy() {
  const lines = execFileSync("docker", ["ps", ...OURS, "--format", "{{.Names}}: {{.Status}}"], { encoding: "utf8" });
  return lines.trim().split("\n").filter((line) => /\(unhealthy\)|\(health: starting\)|Restarting/.test(line));
}

const giveUpAt = performance.now() + PATIENCE_MS;
while (unhealthy().length > 0 && performance.now() < giveUpAt) await delay(500);
const problems = unhealthy();
if (problems.length === 0) {
  console.info(`Concierge is up, in demo mode. Public APIs, all on 127.0.0.1:

  auth 8081   access 8082   organization 8083   user 8084   notification 8085   greeter 8086

  pushes    http://127.0.0.1:8089   a page of what is pushed
  try it    make demo/containers
  stop it   make down               data goes, too`);
} else {
  console.error(`not healthy within ${PATIENCE_MS / 1000} s:\n${problems.join("\n")}\nsee: docker logs <container>`);
  process.exitCode = 1;
}
