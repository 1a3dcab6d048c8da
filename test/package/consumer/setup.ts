export { globalSetup, globalTeardown } from "concierge/testing";
