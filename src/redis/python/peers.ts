/** Python clients: subscribers of a lock's channel that this package is not. */

import { MAX_TIMER_MS } from "../../wait/deadline.ts";
import type { LockConnection } from "../connection/connection.ts";
import type { LockKeys } from "../protocol/keys.ts";
import { commandOf, PING_SCRIPT } from "../protocol/scripts.ts";
import { isPortalock, parsePong, pingMessage } from "./protocol.ts";

/**
 * How often the Python clients are counted while their replies are awaited, in
 * milliseconds. A client that unsubscribes never replies.
 */
const RECOUNT_MS = 50;

/** How long {@linkcode allPeersShared} waits for replies. */
export interface PeerWait {
  /** How long to wait, in milliseconds. */
  readonly timeout: number;
  /** Settles when the result does not matter any more. */
  readonly cancelled: Promise<void>;
}

/** Returns the number of Python clients that are subscribed now. */
async function countPythonPeers(
  connection: LockConnection,
  { shared = "", key }: LockKeys,
): Promise<number> {
  const command = ["PUBSUB", "NUMSUB", shared, key];
  const reply = await connection.send(command) as number[];
  const [, subscribers = 0, , connections = 0] = reply;
  return subscribers - connections;
}

/**
 * Pings the Python clients of a lock. As many of them as received the ping must
 * reply, each with an identifier of its own, that they share the lock.
 *
 * @param connection The connection to ask through.
 * @param keys The names of the lock, with a channel that Python shares.
 * @param wait How long to wait for the replies.
 * @returns The number of Python clients, or `undefined` unless all of them
 * share the lock.
 */
export async function allPeersShared(
  connection: LockConnection,
  keys: LockKeys,
  { timeout, cancelled }: PeerWait,
): Promise<number | undefined> {
  const { key, shared = "" } = keys;
  const replyTo = `${connection.replyChannel(keys)}:${connection.nextId()}`;
  const sharing = new Set<string>();
  let expected: number | undefined;
  let refused = false;
  let replies = 0;
  let settle = () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  let recount: ReturnType<typeof setInterval> | undefined;
  const onReply = (message: string) => {
    const peer = parsePong(message, replies++);
    if (isPortalock(peer)) return;
    if (peer.role === "shared") sharing.add(peer.id);
    else refused = true;
    if (refused || sharing.size === expected) settle();
  };
  const subscribed = connection.subscribe([replyTo], false, onReply);
  try {
    // Otherwise the replies could arrive before the subscription.
    if (!connection.client.ordered) await subscribed;
    const args = [shared, pingMessage(replyTo)];
    const ping = commandOf(PING_SCRIPT, [key], args);
    const pinged = connection.run(PING_SCRIPT, ping);
    [expected] = await Promise.all([pinged as Promise<number>, subscribed]);
    if (!refused && sharing.size < expected) {
      const before = expected;
      await new Promise<void>((resolve) => {
        settle = resolve;
        cancelled.then(resolve);
        timer = setTimeout(resolve, Math.min(timeout, MAX_TIMER_MS));
        recount = setInterval(async () => {
          const count = await countPythonPeers(connection, keys)
            .catch(() => before);
          if (count !== before) resolve();
        }, RECOUNT_MS);
      });
    }
    return !refused && sharing.size === expected ? expected : undefined;
  } finally {
    clearTimeout(timer);
    clearInterval(recount);
    connection.unsubscribe([replyTo], false).catch(() => {});
  }
}
