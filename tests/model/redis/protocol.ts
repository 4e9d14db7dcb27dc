/** What the server does: subscriptions and scripts, each in one step. */

import {
  advance,
  allShare,
  type Clock,
  firstAlive,
  grant,
  mayEnter,
  normalise,
  prune,
} from "./advance.ts";
import { asker, foreigners, isAlive, send } from "./server.ts";
import {
  C,
  type Command,
  type Configuration,
  operationOf,
  P,
  type State,
} from "./state.ts";

/** Lets the server execute the next command of a session. */
export function execute(
  config: Configuration,
  state: State,
  index: number,
): void {
  const session = state.sessions[index];
  const command = session.commands.shift()!;
  const bits = bitsOf(config, command);
  if (command[0].startsWith("subscribe")) session.subscribed |= bits;
  else if (command[0].startsWith("unsubscribe")) session.subscribed &= ~bits;
  else if (command[0] === "ask") ask(config, state, command[1]);
  else script(config, state, (largest) => run(config, state, command, largest));
}

/** The script that advances, for a waiter. */
export function check(
  config: Configuration,
  state: State,
  entry: number,
): void {
  const holds = state.holders.some(([other]) => other === entry);
  script(config, state, () => {
    if (!holds && !state.queue.includes(entry)) state.queue.push(entry);
  });
  const waits = state.queue.includes(entry);
  if (state.flushed && waits) send(state, entry, "waits");
}

/** The same for a holder, who must be there with its token. */
export function heartbeat(
  config: Configuration,
  state: State,
  entry: number,
  token?: number,
): void {
  script(config, state, () => {});
  const { queue, holders } = state;
  const content = config.without === "whoever waits again still holds";
  const held = holders.some(([other, its]) =>
    other === entry && (its === token || content)
  );
  if (!held && !(content && queue.includes(entry))) send(state, entry, "gone");
}

/** Semaphores know no C. */
function bitsOf({ sessions }: Configuration, [name]: Command): number {
  const all = typeof sessions[0][0][0].kind === "number" ? P : C | P;
  return name.endsWith(" C") ? C : name.endsWith(" P") ? P : all;
}

/** A script has its body, and then advances. */
function script(
  config: Configuration,
  state: State,
  body: (clock: Clock) => void,
): void {
  const tokens = state.holders.map(([, token]) => token);
  const clock: Clock = { largest: Math.max(0, ...tokens) };
  body(clock);
  advance(config, state, clock);
  for (const refused of clock.refused ?? []) {
    if (state.queue.includes(refused)) refuse(config, state, refused);
  }
  const next = firstAlive(state);
  const living = state.holders.filter(([entry]) => isAlive(state, entry));
  if (
    next !== undefined && mayEnter(config, { ...state, holders: living }, next)
  ) {
    state.wrong = `${next} may enter and was left waiting`;
  }
  normalise(config, state);
}

function run(
  config: Configuration,
  state: State,
  [name, entry, count]: Command,
  clock: Clock,
): void {
  if (name === "acquire") {
    state.queue.push(entry);
    if (!operationOf(config, entry).waits) clock.refused = [entry];
  } else if (name === "release") {
    state.queue = state.queue.filter((other) => other !== entry);
    state.holders = state.holders.filter(([other]) => other !== entry);
    if (config.without === "no advance in the release") clock.largest = NaN;
  } else if (name === "join") {
    join(config, state, entry, count, clock);
  }
}

function refuse(config: Configuration, state: State, entry: number): void {
  if (config.without !== "a refused attempt stays in the queue") {
    state.queue = state.queue.filter((other) => other !== entry);
  }
  send(state, entry, "refused");
}

/** The last script of a reader that has asked the foreigners. */
function join(
  config: Configuration,
  state: State,
  entry: number,
  count: number,
  clock: Clock,
): void {
  const { without } = config;
  prune(config, state);
  const first = firstAlive(state);
  const agrees = operationOf(config, entry).kind === "s"
    ? allShare(config, state)
    : state.holders.length === 0;
  const may = state.queue.includes(entry) &&
    (first === entry || without === "joining out of turn") &&
    (agrees || without === "joining whoever holds") &&
    (foreigners(config, state) === count ||
      without === "joining without a second count");
  if (may) grant(config, state, entry, clock);
  else send(state, entry, "not joined");
}

/** Publishes a question and says how many foreigners received it. */
function ask(config: Configuration, state: State, entry: number): void {
  for (const python of state.pythons) {
    if (python.subscribed) python.questions.push(asker(entry));
  }
  send(state, entry, "asked", foreigners(config, state));
}
