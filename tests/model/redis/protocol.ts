/** The server: each subscription and each script is one step. */

import { at } from "../../support/values.ts";
import {
  advance,
  allShare,
  canEnter,
  firstAlive,
  grant,
  removeDead,
} from "./advance.ts";
import {
  isAlive,
  publish,
  pythonClients,
  reply,
  requesterOf,
} from "./server.ts";
import {
  C,
  type Command,
  type Configuration,
  connectionAt,
  operationOf,
  P,
  type State,
  taskAt,
  taskOf,
} from "./state.ts";

/** The server executes the next script of a session. */
export function execute(
  config: Configuration,
  state: State,
  index: number,
): void {
  const [name, member, count] = connectionAt(state, index).commands.shift()!;
  if (name.includes("subscribe")) {
    subscribe(config, state, index, [name, member, count]);
  } else if (name === "verify") heartbeat(config, state, member, count);
  else if (name === "release") release(config, state, member);
  else if (!countsOwnSubscription(config, state, member)) return;
  else if (name === "ask") ask(config, state, member);
  else if (name === "join") join(config, state, member, count);
  else if (name === "adopt") adopt(config, state, member, count);
  else acquire(config, state, member);
}

/** The server executes the next command of the connection that subscribes. */
export function executeSubscription(
  config: Configuration,
  state: State,
  index: number,
): void {
  const command = connectionAt(state, index).subscriptions.shift()!;
  subscribe(config, state, index, command);
}

/** The server refuses the next script of a session. */
export function refuse(
  config: Configuration,
  state: State,
  index: number,
): void {
  const [name, member] = connectionAt(state, index).commands.shift()!;
  reply(config, state, member, "refused", name === "release" ? 1 : 0);
}

function subscribe(
  config: Configuration,
  state: State,
  index: number,
  [name, member]: Command,
): void {
  const connection = connectionAt(state, index);
  if (name === "subscribe R") {
    taskAt(state, index, taskOf(member)).hears = true;
    publish(state, member, "listens");
    return;
  }
  const bits = bitsOf(config, name);
  if (name.startsWith("un")) connection.subscribed &= ~bits;
  else connection.subscribed |= bits;
  if (config.twoConnections && !name.startsWith("un")) {
    publish(state, index * 100, "subscribed");
  }
}

/** Returns the subscriptions of a command. Semaphores do not use C. */
function bitsOf(config: Configuration, name: string): number {
  const all = typeof operationOf(config, 0).kind === "number" ? P : C | P;
  return name.endsWith(" C") ? C : name.endsWith(" P") ? P : all;
}

/**
 * Returns whether the session of a script is alive. With two connections, its
 * subscriptions may have ended while the script was in transit. The process
 * takes the refusal for the end of its connection.
 */
function countsOwnSubscription(
  { without }: Configuration,
  state: State,
  member: number,
): boolean {
  return isAlive(state, member) ||
    without === "the script does not count the own subscription";
}

/** The script `acquire`. */
function acquire(config: Configuration, state: State, member: number): void {
  step(config, state, member, () => state.queue.push(member));
  if (!state.queue.includes(member)) return;
  if (!operationOf(config, member).waits) fail(config, state, member);
  else if (config.twoConnections || config.lookers) {
    reply(config, state, member, "waits", state.queue.indexOf(member));
  }
}

/** The script `look`, for a waiter. */
export function look(
  config: Configuration,
  state: State,
  member: number,
): void {
  const held = state.holders.find(([other]) => other === member);
  step(config, state, member, () => {
    if (!held && !state.queue.includes(member)) state.queue.push(member);
    removeDeadAhead(config, state, member);
  });
  const position = state.queue.indexOf(member);
  // With one connection, this reply has no effect after the message.
  if (held && config.twoConnections) {
    reply(config, state, member, "granted", config.flush ? held[1] : 0);
  }
  const matters = config.twoConnections || config.lookers || state.flushed;
  if (position >= 0 && matters) {
    reply(config, state, member, "waits", position);
  }
}

/** Removes the dead members directly ahead of one. */
function removeDeadAhead(
  { without }: Configuration,
  state: State,
  member: number,
): void {
  if (without === "dead waiters stay") return;
  const dead = (index: number) => !isAlive(state, at(state.queue, index));
  for (let i = state.queue.indexOf(member) - 1; i >= 0 && dead(i); i--) {
    state.queue.splice(i, 1);
  }
}

/** `HGET`, for a holder with its token. It does not change anything. */
export function heartbeat(
  config: Configuration,
  state: State,
  member: number,
  token?: number,
): void {
  const { queue, holders } = state;
  const ignoresLoss =
    config.without === "a holder that waits again still holds";
  const held = holders.some(([other, its]) =>
    other === member && (!config.flush || its === token || ignoresLoss)
  );
  if (!held && !(ignoresLoss && queue.includes(member))) {
    reply(config, state, member, "gone");
  }
}

function release(config: Configuration, state: State, member: number): void {
  step(config, state, member, () => {
    state.queue = state.queue.filter((other) => other !== member);
    state.holders = state.holders.filter(([other]) => other !== member);
  }, config.without !== "no advance in the release");
  if (operationOf(config, member).gives) {
    reply(config, state, member, "released");
  }
}

/** The script `adopt` replaces the record of one member by another. */
function adopt(
  config: Configuration,
  state: State,
  member: number,
  from: number,
): void {
  const { without } = config;
  const record = state.holders.find(([other]) => other === from);
  const may = (isAlive(state, from) ||
    without === "adopting from a dead session") &&
    (record || without === "adopting a record that is gone");
  if (!may) return reply(config, state, member, "failed");
  if (without !== "adopting without removing the record") {
    state.holders = state.holders.filter(([other]) => other !== from);
  }
  state.holders.push([member, record?.[1] ?? 0]);
  state.holders.sort(([a], [b]) => a - b);
  publish(state, from, "adopted");
  reply(config, state, member, "granted", config.flush ? record?.[1] : 0);
}

/** Runs the body of a script, and then the part that advances. */
function step(
  config: Configuration,
  state: State,
  caller: number,
  body: () => void,
  advances = true,
): void {
  const before = [...state.queue];
  body();
  if (advances) advance(config, state, caller);
  const next = firstAlive(state);
  const holders = next === caller
    ? state.holders.filter(([member]) => isAlive(state, member))
    : state.holders;
  if (next !== undefined && canEnter(config, { ...state, holders }, next)) {
    state.wrong = `${next} may enter and was left waiting`;
  }
  publishLooks(config, state, before);
}

/** Notifies waiters that are among the first now, and were not before. */
function publishLooks(
  { lookers = 0, without }: Configuration,
  state: State,
  before: number[],
): void {
  if (without === "no look messages") return;
  for (const member of state.queue.slice(0, lookers)) {
    if (before.indexOf(member) >= lookers) publish(state, member, "look");
  }
}

function fail(config: Configuration, state: State, member: number): void {
  if (config.without !== "a failed attempt stays in the queue") {
    state.queue = state.queue.filter((other) => other !== member);
  }
  reply(config, state, member, "failed");
}

/** The last script of a reader that has asked the Python clients. */
function join(
  config: Configuration,
  state: State,
  member: number,
  count: number,
): void {
  const { without } = config;
  step(config, state, member, () => {
    const first = firstAlive(state);
    if (first === member) removeDead(config, state);
    const agrees = operationOf(config, member).kind === "s"
      ? allShare(config, state)
      : state.holders.length === 0;
    const may = state.queue.includes(member) &&
      (first === member || without === "joining out of turn") &&
      (agrees || without === "joining beside any holder") &&
      (pythonClients(config, state) === count ||
        without === "joining without a second count");
    if (may) grant(config, state, member, member);
    else reply(config, state, member, "not joined");
  });
}

/** Publishes a question, and sends the number of Python clients that get it. */
function ask(config: Configuration, state: State, member: number): void {
  for (const python of state.pythons) {
    if (python.subscribed) python.questions.push(requesterOf(member));
  }
  reply(config, state, member, "asked", pythonClients(config, state));
}
