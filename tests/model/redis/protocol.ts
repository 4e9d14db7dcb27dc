/** The server: each subscription and each script is one step. */

import {
  advance,
  allShare,
  canEnter,
  type Clock,
  firstAlive,
  grant,
  normalize,
  removeDead,
} from "./advance.ts";
import { isAlive, pythonClients, requesterOf, send } from "./server.ts";
import {
  C,
  type Command,
  type Configuration,
  connectionAt,
  operationOf,
  P,
  type State,
} from "./state.ts";

/** The server executes the next command of a connection. */
export function execute(
  config: Configuration,
  state: State,
  index: number,
): void {
  const connection = connectionAt(state, index);
  const command = connection.commands.shift()!;
  const bits = bitsOf(config, command);
  if (command[0].startsWith("subscribe")) connection.subscribed |= bits;
  else if (command[0].startsWith("unsubscribe")) connection.subscribed &= ~bits;
  else if (command[0] === "ask") ask(config, state, command[1]);
  else script(config, state, (largest) => run(config, state, command, largest));
}

/** The script `check`, for a waiter. */
export function check(
  config: Configuration,
  state: State,
  member: number,
): void {
  const holds = state.holders.some(([other]) => other === member);
  script(config, state, () => {
    if (!holds && !state.queue.includes(member)) state.queue.push(member);
  });
  const waits = state.queue.includes(member);
  if (state.flushed && waits) send(state, member, "waits");
}

/** The script `verify`, for a holder with its token. */
export function heartbeat(
  config: Configuration,
  state: State,
  member: number,
  token?: number,
): void {
  script(config, state, () => {});
  const { queue, holders } = state;
  const ignoresLoss =
    config.without === "a holder that waits again still holds";
  const held = holders.some(([other, its]) =>
    other === member && (its === token || ignoresLoss)
  );
  if (!held && !(ignoresLoss && queue.includes(member))) {
    send(state, member, "gone");
  }
}

/** Returns the subscriptions of a command. Semaphores do not use C. */
function bitsOf(config: Configuration, [name]: Command): number {
  const all = typeof operationOf(config, 0).kind === "number" ? P : C | P;
  return name.endsWith(" C") ? C : name.endsWith(" P") ? P : all;
}

/** Runs the body of a script, and then the part that advances. */
function script(
  config: Configuration,
  state: State,
  body: (clock: Clock) => void,
): void {
  const tokens = state.holders.map(([, token]) => token);
  const clock: Clock = { largest: Math.max(0, ...tokens) };
  body(clock);
  advance(config, state, clock);
  for (const failed of clock.failed ?? []) {
    if (state.queue.includes(failed)) fail(config, state, failed);
  }
  const next = firstAlive(state);
  const living = state.holders.filter(([member]) => isAlive(state, member));
  if (
    next !== undefined && canEnter(config, { ...state, holders: living }, next)
  ) {
    state.wrong = `${next} may enter and was left waiting`;
  }
  normalize(config, state);
}

function run(
  config: Configuration,
  state: State,
  [name, member, count]: Command,
  clock: Clock,
): void {
  if (name === "acquire") {
    state.queue.push(member);
    if (!operationOf(config, member).waits) clock.failed = [member];
  } else if (name === "release") {
    state.queue = state.queue.filter((other) => other !== member);
    state.holders = state.holders.filter(([other]) => other !== member);
    if (config.without === "no advance in the release") clock.largest = NaN;
  } else if (name === "join") {
    join(config, state, member, count, clock);
  }
}

function fail(config: Configuration, state: State, member: number): void {
  if (config.without !== "a failed attempt stays in the queue") {
    state.queue = state.queue.filter((other) => other !== member);
  }
  send(state, member, "failed");
}

/** The last script of a reader that has asked the Python clients. */
function join(
  config: Configuration,
  state: State,
  member: number,
  count: number,
  clock: Clock,
): void {
  const { without } = config;
  removeDead(config, state);
  const first = firstAlive(state);
  const agrees = operationOf(config, member).kind === "s"
    ? allShare(config, state)
    : state.holders.length === 0;
  const may = state.queue.includes(member) &&
    (first === member || without === "joining out of turn") &&
    (agrees || without === "joining beside any holder") &&
    (pythonClients(config, state) === count ||
      without === "joining without a second count");
  if (may) grant(config, state, member, clock);
  else send(state, member, "not joined");
}

/** Publishes a question, and sends the number of Python clients that get it. */
function ask(config: Configuration, state: State, member: number): void {
  for (const python of state.pythons) {
    if (python.subscribed) python.questions.push(requesterOf(member));
  }
  send(state, member, "asked", pythonClients(config, state));
}
