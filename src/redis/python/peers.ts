/** Participants that are no sessions: Python's. */

import type { Names } from "../keys.ts";
import { LONGEST_SLEEP } from "../../wait/deadline.ts";
import { ASK } from "../acquisition/scripts.ts";
import type { Session } from "../connection/connection.ts";
import type { Connection } from "../connection/client_adapter.ts";
import { isSession, participant, question } from "./protocol.ts";

/** Who leaves never answers; so they are counted, every so many milliseconds. */
const COUNTING = 50;

/** How many foreigners there are now. */
async function foreigners(
  connection: Connection,
  { shared, key }: Names,
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
 * @param over Settles if nobody wants to know any more.
 * @returns How many foreigners there are; `undefined` unless all of them share.
 */
export async function othersShare(
  session: Session,
  names: Names,
  timeout: number,
  over: Promise<void>,
): Promise<number | undefined> {
  const { connection } = session;
  const responses = `${session.channel(names)}:${session.number()}`;
  const sharing = new Set<string>();
  let expected: number | undefined;
  let refused = false;
  let answers = 0;
  let settle = () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  let counting: ReturnType<typeof setInterval> | undefined;
  const listen = (message: string) => {
    const other = participant(message, answers++);
    if (isSession(other)) return;
    if (other.mode === "shared") sharing.add(other.id);
    else refused = true;
    if (refused || sharing.size === expected) settle();
  };
  const subscribed = connection.subscribe([responses], listen);
  try {
    const asked = session.run(ASK, [names.key], [
      names.shared!,
      question(responses),
    ]);
    [expected] = await Promise.all([asked as Promise<number>, subscribed]);
    if (!refused && sharing.size < expected) {
      const before = expected;
      await new Promise<void>((resolve) => {
        settle = resolve;
        over.then(resolve);
        timer = setTimeout(resolve, Math.min(timeout, LONGEST_SLEEP));
        counting = setInterval(async () => {
          const count = await foreigners(connection, names).catch(() => before);
          if (count !== before) resolve();
        }, COUNTING);
      });
    }
    return !refused && sharing.size === expected ? expected : undefined;
  } finally {
    clearTimeout(timer);
    clearInterval(counting);
    connection.unsubscribe([responses], listen).catch(() => {});
  }
}
