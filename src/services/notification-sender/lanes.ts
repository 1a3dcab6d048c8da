/**
 * Lanes: deliveries side by side, so that one claims and tells while another pushes, and nobody waits behind one slow push. One
 * alone serves until more waits than it takes at once. Each stops by itself when it cannot tell.
 */
import { Alarm, type Job } from "../../jobs.ts";
import { Deliveries, type DeliveryOptions } from "./deliveries.ts";

export interface Lanes {
  jobs: Job[];
  /** There is something to push: wakes a lane that has nothing to do. */
  ring(): void;
}

/** So many of them. Together they look for something to push every `pollMs`, unless they are woken. */
export function createLanes(count: number, pollMs: number, options: Omit<DeliveryOptions, "onMore">): Lanes {
  const lanes = Array.from({ length: count }, () => ({ alarm: new Alarm(), isBusy: false }));
  const ring = () => (lanes.find(({ isBusy }) => !isBusy) ?? lanes[0]!).alarm.ring();
  const jobs = lanes.map((lane, index): Job => {
    const deliveries = new Deliveries({ ...options, onMore: ring });
    return {
      name: `push notifications, lane ${index + 1}`,
      everyMs: pollMs * count,
      alarm: lane.alarm,
      async run(signal) {
        lane.isBusy = true;
        await deliveries.run(signal).finally(() => {
          lane.isBusy = false;
        });
      },
    };
  });
  return { jobs, ring };
}
