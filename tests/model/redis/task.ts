/** The acquisitions of a connection, from the first command to the last. */

import { at } from "../../support/values.ts";
import { replyToPing } from "./replies.ts";
import { requesterOf } from "./server.ts";
import { forget } from "./python.ts";
import {
  ASKING,
  type Command,
  type CommandName,
  type Configuration,
  type Connection,
  connectionAt,
  JOINING,
  memberOf,
  type MessageName,
  type Mode,
  NOT_ASKED,
  operationOf,
  OWN,
  type State,
  type Task,
} from "./state.ts";

/** Sends commands, unless the connection has ended. */
function send(connection: Connection, ...commands: Command[]): void {
  if (connection.subscribed !== 0) connection.commands.push(...commands);
}

const waitsOrHolds = ({ is }: Task) => is !== "f";

export function start(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const connection = connectionAt(state, index);
  const others = connection.tasks.some(waitsOrHolds);
  const own = at(connection.tasks, task);
  const member = memberOf(index, task, own.operation);
  own.is = "w";
  const subscriptions = others ? [] : subscribing(config);
  if (config.without === "subscribe after the script") {
    send(connection, ["acquire", member, 0], ...subscriptions);
  } else send(connection, ...subscriptions, ["acquire", member, 0]);
}

/** Resubscribes after a lost connection, which the protocol does not do. */
export function subscribeAgain(
  config: Configuration,
  connection: Connection,
): void {
  connection.subscribed = OWN;
  send(connection, ...subscribing(config));
}

function subscribing({ without }: Configuration): Command[] {
  const names: CommandName[] =
    without === "subscribe to C, then to portalock:{C}"
      ? ["subscribe C", "subscribe P"]
      : without === "subscribe to portalock:{C}, then to C"
      ? ["subscribe P", "subscribe C"]
      : ["subscribe"];
  return names.map((name) => [name, 0, 0]);
}

/** Ends an acquisition, and starts the next one of its task. */
export function end(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  withScript: boolean,
): void {
  unask(state, index, task);
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  const release: Command[] = withScript
    ? [["release", memberOf(index, task, own.operation), 0]]
    : [];
  own.is = "f";
  delete own.token;
  delete own.beaten;
  const last = !connection.tasks.some(waitsOrHolds);
  const unsubscriptions: Command[] = last
    ? subscribing(config).map(([name]) => [`un${name}` as CommandName, 0, 0])
    : [];
  if (config.without === "unsubscribe before the script") {
    send(connection, ...unsubscriptions, ...release);
  } else send(connection, ...release, ...unsubscriptions);
  if (own.operation + 1 < at(at(config.connections, index), task).length) {
    own.operation++;
    start(config, state, index, task);
  }
}

export function giveUp(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const withScript = config.without !== "giving up without the script";
  end(config, state, index, task, withScript);
}

export function read(
  config: Configuration,
  state: State,
  index: number,
): void {
  const connection = connectionAt(state, index);
  const [name, id, count, mode] = connection.messages.shift()!;
  if (name === "ping") return replyToPing(config, state, index, id);
  const task = connection.tasks.findIndex(({ is, operation }, task) =>
    is !== "f" && memberOf(index, task, operation) === id
  );
  if (task < 0) return;
  const own = at(connection.tasks, task);
  if (own.is === "h") {
    onLockLost(config, state, index, task, name);
  } else if (name === "granted") {
    own.is = "h";
    if (config.flush) own.token = count;
    unask(state, index, task);
  } else if (name === "failed") {
    end(config, state, index, task, false);
  } else if (name === "asked") {
    own.asked = count;
    joinIfAllShare(config, state, index, task);
  } else if (name === "reply" && agrees(config, id, mode)) {
    own.sharing = [...own.sharing, count].sort();
    joinIfAllShare(config, state, index, task);
  } else if (name === "reply" || name === "not joined") {
    unask(state, index, task);
  }
}

/** Returns whether a member may hold beside a Python client with this mode. */
function agrees(config: Configuration, member: number, mode: Mode): boolean {
  const { kind } = operationOf(config, member);
  return (mode === "s" && kind === "s") ||
    (mode === "p" && config.trustsPending === true);
}

/** Handles the message that a holder has lost its lock. */
function onLockLost(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  name: MessageName,
): void {
  const ignoresLoss =
    config.without === "a holder that waits again still holds";
  if (name !== "gone" && (name !== "waits" || ignoresLoss)) return;
  const withScript =
    config.without !== "a holder that lost the lock leaves its member";
  end(config, state, index, task, withScript);
}

function joinIfAllShare(
  { without }: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  const { asked, sharing, operation } = own;
  const enough = without === "joining by the count alone"
    ? 0
    : without === "joining by the first reply"
    ? 1
    : asked;
  if (asked === 0) unask(state, index, task);
  if (asked <= 0 || sharing.length < enough) return;
  own.asked = JOINING;
  own.sharing = [];
  send(connection, ["join", memberOf(index, task, operation), asked]);
}

export function ask(state: State, index: number, task: number): void {
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  own.asked = ASKING;
  const member = memberOf(index, task, own.operation);
  send(connection, ["ask", member, 0]);
}

/** Ends a question, and discards its commands and messages in transit. */
export function unask(state: State, index: number, task: number): void {
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  const member = memberOf(index, task, own.operation);
  if (own.asked === NOT_ASKED) return;
  own.asked = NOT_ASKED;
  own.sharing = [];
  connection.commands = connection.commands.filter(([name, id]) =>
    name !== "ask" || id !== member
  );
  connection.messages = connection.messages.filter(([name, id]) =>
    !["asked", "reply", "not joined"].includes(name) || id !== member
  );
  forget(state, requesterOf(member));
}
