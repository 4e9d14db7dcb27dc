/**
 * The child's side of the scenarios `redis-waiters`, `redis-idle` and
 * `redis-held`: opens a crowd, reports how long the event loop stalls until a
 * line arrives, and how many leases are lost by then.
 */

import process from "node:process";
import { receive, send } from "./messages.mjs";

/** How many clients connect, or locks are acquired, at once. */
const AT_ONCE = 100;

/**
 * @typedef {import("./types.ts").RedisLocks} Locks
 * @typedef {import("./types.ts").Locker} Locker
 */

/**
 * @param {import("./types.ts").RedisContender} contender
 * @param {string} path
 * @param {keyof typeof ROLES} role
 * @param {string} count
 */
export default async function redisCrowd({ connect }, path, role, count) {
  const [url = "", name = ""] = path.split("#");
  const open = async () => await connect(url);
  const leases = await ROLES[role](open, name, Number(count));
  const loop = watchLoop();
  send("ready");
  await receive();
  send({ stall: loop.end(), lost: lostOf(leases) });
  // The connections end with the process.
  process.exit();
}

/** How many are lost. Only the leases of this package have a signal. */
function lostOf(/** @type {unknown[]} */ leases) {
  return leases.filter((lease) =>
    /** @type {{ signal?: AbortSignal }} */ (lease)?.signal?.aborted
  ).length;
}

/**
 * Each waiter, reader and holder of a place has a client of its own. Each role
 * resolves to the leases that are held.
 *
 * @type {Record<
 *   "waiters" | "readers" | "semaphore" | "held",
 *   (open: () => Promise<Locks>, name: string, count: number) => Promise<unknown[]>
 * >}
 */
const ROLES = {
  async waiters(open, name, count) {
    const holder = (await open()).lock(name);
    const leases = [await holder.acquire()];
    const lockers = await each(count, async () => (await open()).lock(name));
    begin(lockers);
    return leases;
  },
  async readers(open, name, count) {
    const leases = await each(
      count,
      async () => await (await open()).reader?.(name).acquire(),
    );
    return leases;
  },
  async semaphore(open, name, count) {
    const make = async () => (await open()).semaphore?.(name, count);
    const leases = await each(count, async () => (await make())?.acquire());
    begin(await each(count, make));
    return leases;
  },
  async held(open, name, count) {
    const { lock } = await open();
    const leases = await each(count, (i) => lock(`${name}.${i}`).acquire());
    return leases;
  },
};

/** Begins to wait. */
function begin(/** @type {(Locker | undefined)[]} */ lockers) {
  for (const one of lockers) {
    Promise.resolve(one?.acquire()).catch(() => {});
  }
}

/**
 * @template Result
 * @param {number} count
 * @param {(i: number) => Result | Promise<Result>} make
 */
async function each(count, make) {
  const results = [];
  for (let first = 0; first < count; first += AT_ONCE) {
    const length = Math.min(AT_ONCE, count - first);
    const some = Array.from({ length }, (_, i) => make(first + i));
    results.push(...await Promise.all(some));
  }
  return results;
}

/** Measures the longest time without a turn of the event loop. */
function watchLoop() {
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  return {
    end() {
      clearInterval(timer);
      return longest;
    },
  };
}
