/** docs/operations.md and deploy/alerts.yaml speak of what a running system tells, of all of it, and of nothing else. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { parse } from "yaml";
import { systemClock } from "../clock.ts";
import { createLogger } from "../log.ts";
import { startTestSystem } from "../testing/system.ts";
import { createMetrics } from "./metrics.ts";

interface Alert {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string };
}

/** What is not a metric in our expressions: functions and words of PromQL, and Prometheus' own metric. */
const WORDS = ["rate", "increase", "delta", "changes", "histogram_quantile", "sum", "max", "by", "up"];
/** Nobody is there: what is told of it is told all the same. */
const NOWHERE = "127.0.0.1:1";

const fileOf = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), "utf8");
const namesOf = (metrics: string) =>
  [...metrics.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]);

/** Name and type of each, of every service, with Redis and Kafka, and of the process that they run in. */
async function toldMetrics(): Promise<Map<string, string>> {
  await using system = await startTestSystem({
    variables: { CONCIERGE_REDIS_URL: `redis://${NOWHERE}`, CONCIERGE_KAFKA_BROKERS: NOWHERE },
  });
  const told = await (await fetch(`${system.internalUrl}/metrics`)).text();
  const log = createLogger({ level: "fatal", mode: "development", clock: systemClock });
  using ofProcess = createMetrics({ log, residentBytes: () => 0, droppedLogLines: () => 0 });
  return new Map([...namesOf(told), ...namesOf(await ofProcess.text())] as [string, string][]);
}

async function alerts(): Promise<Alert[]> {
  const { groups } = parse(await fileOf("deploy/alerts.yaml")) as { groups: { rules: Alert[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

/** What the first column of a table names, below a heading of the page. */
function firstColumn(page: string, heading: string): string[] {
  const section = page.split(/^## /m).find((part) => part.startsWith(`${heading}\n`))!;
  return [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name!);
}

test("the page explains every metric of a running system, and no other; alerts ask for these only", async () => {
  const told = await toldMetrics();
  assert.deepEqual(firstColumn(await fileOf("docs/operations.md"), "Metrics").sort(), [...told.keys()].sort());
  const series = [...told].flatMap(([name, type]) => {
    return type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name];
  });
  for (const { alert, expr } of await alerts()) {
    const bare = expr.replaceAll(/\{[^}]*\}|\[\w+\]|\bby \([^)]*\)/g, "");
    for (const [name] of bare.matchAll(/\b[a-z_]\w*/g)) {
      assert.ok(WORDS.includes(name) || series.includes(name), `${alert} asks for ${name}, which nobody tells`);
    }
  }
});

test("the page explains every alert once, and no other; each says whom it wakes", async () => {
  const rules = await alerts();
  assert.deepEqual(
    firstColumn(await fileOf("docs/operations.md"), "Alerts"),
    rules.map(({ alert }) => alert),
  );
  for (const { alert, labels, annotations } of rules) {
    assert.match(labels.severity, /^(page|ticket)$/, alert);
    assert.ok(annotations.summary, alert);
  }
});
