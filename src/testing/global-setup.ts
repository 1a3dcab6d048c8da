/**
 * One cluster for a whole test run: `tsx --test --test-global-setup=src/testing/global-setup.ts ...`. The runner passes
 * its environment on to the process of each test file, so that is how the address reaches them.
 */
import { CLUSTER_VARIABLE, startTestCluster, type TestCluster } from "./cluster.ts";

let cluster: TestCluster | undefined;

export async function globalSetup(): Promise<void> {
  if (process.env[CLUSTER_VARIABLE]) return;
  cluster = await startTestCluster();
  process.env[CLUSTER_VARIABLE] = cluster.adminUrl;
}

export async function globalTeardown(): Promise<void> {
  await cluster?.[Symbol.asyncDispose]();
}
