/** What production refuses unless somebody takes the risk, what a demo allows, and what no mode does. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeVariables } from "./config.ts";
import { type Env, everything, goodEnv, load, problemsOf, services } from "./testing/config-cases.ts";
import { strongSecret } from "./testing/secret-cases.ts";

test("development takes weak secrets, but nothing that is not well formed", () => {
  const env = {
    ...goodEnv("development"),
    CONCIERGE_AUTH_DATABASE_URL: "postgres://postgres@db/auth",
    CONCIERGE_NOTIFICATION_SENDER_CURSOR_KEY: "changeme",
    CONCIERGE_NOTIFICATION_SENDER_ACCOUNT: '{"key":"x"}',
  };
  assert.deepEqual(
    problemsOf(() => load(everything, env)),
    [],
  );
  const broken = { ...env, CONCIERGE_AUTH_SIGNING_KEYS: '{"keys":[]}', CONCIERGE_NOTIFICATION_SENDER_ACCOUNT: "{}" };
  assert.deepEqual(
    problemsOf(() => load(everything, broken)),
    ["CONCIERGE_AUTH_SIGNING_KEYS: has no key", "CONCIERGE_NOTIFICATION_SENDER_ACCOUNT: key must be text"],
  );
});

const database = (host: string, query = "") =>
  strongSecret("databaseUrl").replace("127.0.0.1:5432", host).concat(query);
const redis = (host: string) => strongSecret("redisUrl").replace("rediss://", "redis://").replace(/@.*/, `@${host}`);
const risky: { what: string; name: string; value: () => string; flag?: string; demo: "refused" | "allowed" }[] = [
  {
    what: "a database without TLS",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("db.example.com"),
    flag: "CLEARTEXT_DATABASE",
    demo: "refused",
  },
  {
    what: "sslmode=disable",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("postgres", "?sslmode=disable"),
    flag: "CLEARTEXT_DATABASE",
    demo: "allowed",
  },
  {
    what: "sslmode=prefer",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("10.0.0.4:5432", "?sslmode=prefer"),
    flag: "CLEARTEXT_DATABASE",
    demo: "allowed",
  },
  {
    what: "one remote host of two",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("127.0.0.1:5432,db.example.com:5432"),
    flag: "CLEARTEXT_DATABASE",
    demo: "refused",
  },
  {
    what: "S-INJ-09 Redis over cleartext",
    name: "CONCIERGE_REDIS_URL",
    value: () => redis("redis.example.com"),
    flag: "CLEARTEXT_PEERS",
    demo: "refused",
  },
  {
    what: "Redis over cleartext in the network",
    name: "CONCIERGE_REDIS_URL",
    value: () => redis("redis"),
    flag: "CLEARTEXT_PEERS",
    demo: "allowed",
  },
  {
    what: "a peer over http",
    name: "CONCIERGE_NOTIFICATION_SENDER_AUTH_URL",
    value: () => "http://auth.example.com:50051",
    flag: "CLEARTEXT_PEERS",
    demo: "refused",
  },
  {
    what: "a peer over http in the network",
    name: "CONCIERGE_NOTIFICATION_SENDER_AUTH_URL",
    value: () => "http://auth:50051",
    flag: "CLEARTEXT_PEERS",
    demo: "allowed",
  },
  {
    what: "a peer over http at an IPv6 address",
    name: "CONCIERGE_NOTIFICATION_SENDER_AUTH_URL",
    value: () => "http://[2001:db8::1]:80",
    flag: "CLEARTEXT_PEERS",
    demo: "refused",
  },
  {
    what: "a Kafka broker in the clear",
    name: "CONCIERGE_KAFKA_BROKERS",
    value: () => "127.0.0.1:9092,kafka.example.com:9092",
    flag: "CLEARTEXT_PEERS",
    demo: "refused",
  },
  {
    what: "a Kafka broker in the clear in the network",
    name: "CONCIERGE_KAFKA_BROKERS",
    value: () => "kafka:9092",
    flag: "CLEARTEXT_PEERS",
    demo: "allowed",
  },
  { what: "reflection", name: "CONCIERGE_REFLECTION", value: () => "true", flag: "REFLECTION", demo: "refused" },
  {
    what: "S-CFG-04 the push stand-in",
    name: "CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT",
    value: () => "http://127.0.0.1:9",
    demo: "allowed",
  },
  {
    what: "S-CFG-04 the test clock",
    name: "CONCIERGE_NOTIFICATION_SENDER_TEST_CLOCK",
    value: () => "true",
    demo: "refused",
  },
];
const allFlags = describeVariables(services)
  .map((row) => row.name)
  .filter((name) => name.startsWith("CONCIERGE_RISK_"));

for (const { what, name, value, flag, demo } of risky) {
  test(`S-CFG-03 ${what} is refused in production`, () => {
    const env = { ...goodEnv("production"), [name]: value() };
    const flagName = flag === undefined ? undefined : `CONCIERGE_RISK_${flag}`;
    const problems = problemsOf(() => load(everything, env));
    assert.equal(problems.length, 1, problems.join("\n"));
    assert.ok(problems[0]!.startsWith(name) && !problems[0]!.includes(value()), problems[0]);
    if (flagName !== undefined) assert.match(problems[0]!, new RegExp(`take the risk: ${flagName}=accepted$`));

    for (const other of allFlags) {
      const withFlag = () => load(everything, { ...env, [other]: "accepted" });
      if (other !== flagName) assert.equal(problemsOf(withFlag).length, 1, `${other} lifted it`);
      else
        assert.deepEqual(
          withFlag().acceptedRisks.map((risk) => risk.name),
          [flagName],
        );
    }
    assert.equal(
      problemsOf(() => load(everything, { ...env, CONCIERGE_MODE: "demo" })).length,
      demo === "allowed" ? 0 : 1,
    );
    assert.deepEqual(
      problemsOf(() => load(everything, { ...env, CONCIERGE_MODE: "development" })),
      [],
    );
  });
}

test("S-CFG-03 what is encrypted or stays on this host needs no flag; a flag must say accepted", () => {
  const fine: Env[] = [
    { CONCIERGE_AUTH_DATABASE_URL: database("db.example.com", "?sslmode=verify-full") },
    { CONCIERGE_AUTH_DATABASE_URL: database("a.example.com:5432,b.example.com:5433", "?sslmode=require") },
    { CONCIERGE_AUTH_DATABASE_URL: database("[::1]:5432") },
    { CONCIERGE_AUTH_DATABASE_URL: database("localhost") },
    { CONCIERGE_REDIS_URL: redis("127.0.0.1:6379/1") },
    { CONCIERGE_NOTIFICATION_SENDER_AUTH_URL: "https://auth.example.com" },
    { CONCIERGE_NOTIFICATION_SENDER_AUTH_URL: "http://[::1]:50051" },
    { CONCIERGE_REFLECTION: "false" },
    { CONCIERGE_KAFKA_BROKERS: "tls://kafka-1.example.com:9093, tls://[2001:db8::1]:9093" },
    { CONCIERGE_KAFKA_BROKERS: "127.0.0.1:9092,[::1]:9092" },
  ];
  for (const change of fine) {
    const problems = problemsOf(() => load(everything, { ...goodEnv("production"), ...change }));
    assert.deepEqual(problems, [], Object.keys(change)[0]);
  }
  const problems = problemsOf(() => load(everything, { ...goodEnv("production"), CONCIERGE_RISK_REFLECTION: "true" }));
  assert.deepEqual(problems, ['CONCIERGE_RISK_REFLECTION: Invalid input: expected "accepted"']);
});

test("S-CFG-06 no service keys, or both listeners on one port, is refused in every mode", () => {
  for (const mode of ["development", "demo", "production"]) {
    const env = { ...goodEnv(mode), CONCIERGE_PUBLIC_PORT: "9000", CONCIERGE_INTERNAL_PORT: "9000" };
    assert.deepEqual(
      problemsOf(() => load(everything, { ...env, CONCIERGE_AUTH_SERVICE_KEYS: '{"keys":[]}' })),
      ["CONCIERGE_AUTH_SERVICE_KEYS: has no key", "CONCIERGE_INTERNAL_PORT must differ from CONCIERGE_PUBLIC_PORT"],
    );
    const free = { ...env, CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };
    assert.deepEqual(
      problemsOf(() => load(everything, free)),
      [],
    );
  }
});

test("Kafka brokers are addresses, all with TLS or all without", () => {
  const refused = ["kafka", "kafka:0", "kafka:70000", "http://kafka:9092", "a:9092,tls://b:9093", ","];
  for (const value of refused) {
    const problems = problemsOf(() => load(everything, { ...goodEnv("development"), CONCIERGE_KAFKA_BROKERS: value }));
    assert.ok(problems.length > 0 && problems.every((problem) => problem.startsWith("CONCIERGE_KAFKA_BROKERS")), value);
  }
});
