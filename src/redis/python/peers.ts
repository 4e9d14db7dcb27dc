/** Participants that are no sessions: Python's. */

import type { LockKeys } from "../protocol/keys.ts";
import { MAX_TIMER_MS } from "../../wait/deadline.ts";
import { PING_SCRIPT } from "../protocol/scripts.ts";
import type { LockConnection } from "../connection/connection.ts";
import type { RedisConnection } from "../connection/client_adapter.ts";
import { isPortalock, parsePong, pingMessage } from "./protocol.ts";

/** Who leaves never answers; so they are counted, every so many milliseconds. */
const RECOUNT_MS = 50;

/** How many foreigners there are now. */
async function countPythonPeers(
  connection: RedisConnection,
  { shared, key }: LockKeys,
): Promise<number> {
  const command = ["PUBSUB", "NUMSUB", shared!, key];
  const counts = await connection.sendCommand(command) as number[];
  return counts[1] - counts[3];
}

/**
 * Asks all participants of a lock who they are. As many foreigners as received
 * the question must answer, each for itself, that they share.
 *
 * @param timeout For how long to wait for the answers, in milliseconds.
 * @param cancelled Settles if nobody wants to know any more.
 * @returns How many foreigners there are; `undefined` unless all of them share.
 */
export async function allPeersShared(
  connection: LockConnection,
  keys: LockKeys,
  timeout: number,
  cancelled: Promise<void>,
): Promise<number | undefined> {
  const { client: redis } = connection;
  const replyTo = `${connection.replyChannel(keys)}:${connection.nextId()}`;
  const sharing = new Set<string>();
  let expected: number | undefined;
  let refused = false;
  let answers = 0;
  let settle = () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  let counting: ReturnType<typeof setInterval> | undefined;
  const listen = (message: string) => {
    const other = parsePong(message, answers++);
    if (isPortalock(other)) return;
    if (other.role === "shared") sharing.add(other.id);
    else refused = true;
    if (refused || sharing.size === expected) settle();
  };
  const subscribed = redis.subscribe([replyTo], listen);
  try {
    const asked = connection.run(PING_SCRIPT, [keys.key], [
      keys.shared!,
      pingMessage(replyTo),
    ]);
    [expected] = await Promise.all([asked as Promise<number>, subscribed]);
    if (!refused && sharing.size < expected) {
      const before = expected;
      await new Promise<void>((resolve) => {
        settle = resolve;
        cancelled.then(resolve);
        timer = setTimeout(resolve, Math.min(timeout, MAX_TIMER_MS));
        counting = setInterval(async () => {
          const count = await countPythonPeers(redis, keys).catch(() => before);
          if (count !== before) resolve();
        }, RECOUNT_MS);
      });
    }
    return !refused && sharing.size === expected ? expected : undefined;
  } finally {
    clearTimeout(timer);
    clearInterval(counting);
    redis.unsubscribe([replyTo], listen).catch(() => {});
  }
}
