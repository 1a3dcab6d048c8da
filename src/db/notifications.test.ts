import assert from "node:assert/strict";
import test from "node:test";
import { testCluster, testDatabase } from "../testing/cluster.ts";
import { until } from "../testing/until.ts";
import { connect } from "./connection.ts";
import { listenTo } from "./notifications.ts";

test("notifications are heard, also after the connection was lost, which is told, too", async () => {
  await using database = await testDatabase();
  let heard = 0;
  const onNotify = () => void heard++;
  await using _listening = listenTo({
    url: database.runtimeUrl,
    applicationName: "test",
    channel: "a channel",
    onNotify,
  });
  const sender = connect(database.ownerUrl, { applicationName: "test" });
  await using closing = new AsyncDisposableStack();
  closing.defer(() => sender.end());
  await until("it listens", () => heard === 1);
  await sender`notify "a channel"`;
  await until("the first", () => heard === 2);
  const { adminUrl } = await testCluster();
  const admin = connect(adminUrl, { applicationName: "test" });
  closing.defer(() => admin.end());
  await admin`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = ${database.name} and pid <> pg_backend_pid()
      and usename <> ${new URL(database.ownerUrl).username}`;
  await until("it listens again", () => heard === 3);
  await sender`notify "another"`;
  await sender`notify "a channel"`;
  await until("the second", () => heard === 4);
});

test("without a database it goes on trying, and can be stopped", async () => {
  const url = "postgres://nobody@127.0.0.1:1/nothing";
  const listening = listenTo({ url, applicationName: "test", channel: "x", onNotify: () => assert.fail("heard") });
  await listening[Symbol.asyncDispose]();
  await listening[Symbol.asyncDispose]();
});
