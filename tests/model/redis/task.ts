/** The acquisitions of a session, from the first command to the last. */

import { at } from "../../support/values.ts";
import { replyToPing } from "./replies.ts";
import { isAlive, requesterOf } from "./server.ts";
import { forget } from "./python.ts";
import {
  ASKING,
  type Command,
  type CommandName,
  type Configuration,
  type Connection,
  connectionAt,
  isActive,
  JOINING,
  LISTENING,
  memberOf,
  type Message,
  type Mode,
  NOT_ASKED,
  operationOf,
  OWN,
  type State,
  type Task,
  taskAt,
} from "./state.ts";

/** Sends scripts, unless the connection has ended. */
function send(connection: Connection, ...commands: Command[]): void {
  const { subscribed, commandsEnded } = connection;
  if (subscribed !== 0 && !commandsEnded) connection.commands.push(...commands);
}

/** Sends commands on the connection that subscribes. */
function sendSubscriptions(
  { twoConnections }: Configuration,
  connection: Connection,
  commands: Command[],
): void {
  if (connection.subscribed === 0) return;
  const { commands: scripts, subscriptions } = connection;
  (twoConnections ? subscriptions : scripts).push(...commands);
}

/** Starts an acquisition. A session that lingers does not subscribe. */
export function start(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const { twoConnections, without } = config;
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  const acquire = firstScript(config, state, index, task);
  own.is = "w";
  const subscriptions = connection.listens === "no" ? subscribing(config) : [];
  const scriptFirst = without === "subscribe after the script";
  if (scriptFirst) send(connection, acquire);
  sendSubscriptions(config, connection, subscriptions);
  if (!twoConnections) connection.listens = "yes";
  else if (connection.listens === "no") connection.listens = "asked";
  if (
    connection.listens === "asked" &&
    without !== "the script before SUBSCRIBE is confirmed"
  ) own.unsent = true;
  else if (!scriptFirst) send(connection, acquire);
}

/** Returns the script that acquires or adopts the lock. */
function firstScript(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): Command {
  const { operation } = taskAt(state, index, task);
  const member = memberOf(index, task, operation);
  return operationOf(config, member).adopts
    ? ["adopt", member, state.offer ?? -1]
    : ["acquire", member, 0];
}

/** Ends a lease, and keeps its record until another session adopts it. */
export function transfer(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const own = taskAt(state, index, task);
  own.is = "o";
  state.offer = memberOf(index, task, own.operation);
  if (config.without === "unsubscribe at the transfer") {
    unsubscribe(config, state, index);
  }
}

/**
 * Removes the record of an offer. The session stays subscribed until that has
 * been done, because the record can be adopted until then.
 */
export function expire(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  if (config.without === "unsubscribe before an offer is removed") {
    return end(config, state, index, task, true);
  }
  const own = taskAt(state, index, task);
  own.is = "r";
  const member = memberOf(index, task, own.operation);
  send(connectionAt(state, index), ["release", member, 0]);
}

/** Resubscribes after a lost connection, which the protocol does not do. */
export function subscribeAgain(
  config: Configuration,
  connection: Connection,
): void {
  connection.subscribed = OWN;
  sendSubscriptions(config, connection, subscribing(config));
}

function subscribing({ without }: Configuration): Command[] {
  const names: CommandName[] = without === "subscribe to C, then to {C}"
    ? ["subscribe C", "subscribe P"]
    : without === "subscribe to {C}, then to C"
    ? ["subscribe P", "subscribe C"]
    : ["subscribe"];
  return names.map((name) => [name, 0, 0]);
}

/** Ends the subscription of a session without acquisitions. */
export function unsubscribe(
  config: Configuration,
  state: State,
  index: number,
): void {
  const connection = connectionAt(state, index);
  connection.listens = "no";
  const commands = subscribing(config).map(([name]): Command => [
    `un${name}` as CommandName,
    0,
    0,
  ]);
  sendSubscriptions(config, connection, commands);
}

/** Ends an acquisition. The subscription lingers. */
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
  const member = memberOf(index, task, own.operation);
  if (withScript && !own.unsent) send(connection, ["release", member, 0]);
  delete own.unsent;
  delete own.near;
  delete own.token;
  delete own.beaten;
  const operations = at(at(config.connections, index), task).length;
  own.is = own.operation + 1 < operations ? "n" : "f";
  if (own.is === "n") own.operation++;
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

/** Reads the next message, or the next reply of the other connection. */
export function read(
  config: Configuration,
  state: State,
  index: number,
  from: "messages" | "replies",
): void {
  const connection = connectionAt(state, index);
  const message = connection[from].shift()!;
  const [name, id] = message;
  if (name === "ping") {
    if (replyToPing(config, state, index, id)) {
      unsubscribe(config, state, index);
    }
    return;
  }
  if (name === "subscribed") return onSubscribed(config, state, index);
  if (name === "refused") return onRefused(config, state, index, message);
  const task = connection.tasks.findIndex((own, task) =>
    isActive(own) && memberOf(index, task, own.operation) === id
  );
  if (task < 0) return;
  const { is } = at(connection.tasks, task);
  if (is === "o" || is === "r") {
    const ends = name === "adopted" || name === "released";
    if (ends) end(config, state, index, task, false);
  } else if (is === "h") onHolderMessage(config, state, index, task, message);
  else onWaiterMessage(config, state, index, task, message);
}

/** Sends the scripts that have waited for the confirmation. */
function onSubscribed(
  config: Configuration,
  state: State,
  index: number,
): void {
  const connection = connectionAt(state, index);
  connection.listens = "yes";
  connection.tasks.forEach((own, task) => {
    if (!own.unsent) return;
    delete own.unsent;
    send(connection, firstScript(config, state, index, task));
  });
}

/** Sends a script again. Other acquisitions go on. */
function onRefused(
  { without }: Configuration,
  state: State,
  index: number,
  [, member, isRelease]: Message,
): void {
  const connection = connectionAt(state, index);
  if (isRelease) {
    if (without === "a refused release ends the connection") {
      connection.tasks.forEach((own, task) =>
        checkLoss(state, memberOf(index, task, own.operation), own)
      );
    } else if (without !== "a refused release is not repeated") {
      send(connection, ["release", member, 0]);
    }
    return;
  }
  const wants = connection.tasks.some((own, task) =>
    own.is === "w" && memberOf(index, task, own.operation) === member
  );
  if (wants) send(connection, ["acquire", member, 0]);
}

function onWaiterMessage(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  [name, id, count, mode]: Message,
): void {
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  if (name === "granted") {
    own.is = "h";
    delete own.near;
    if (config.flush) own.token = count;
    unask(state, index, task);
  } else if (name === "failed") {
    end(config, state, index, task, false);
  } else if (name === "look") {
    own.near = true;
  } else if (name === "waits" && config.lookers) {
    // Positions only fall, so an older reply does not set it back.
    const forgets =
      config.without === "an old position replaces a look message";
    own.near = count < config.lookers || (!forgets && own.near);
  } else if (name === "listens") {
    own.asked = ASKING;
    send(connection, ["ask", id, 0]);
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

/**
 * Handles a reply to a holder. A reply that it waits is older than the grant,
 * or the server has lost its data. A heartbeat finds out which it is.
 */
function onHolderMessage(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  [name, member, token]: Message,
): void {
  const { without } = config;
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  const ends = without === "an old reply ends the lease";
  if (name === "waits" && !ends) {
    send(connection, ["verify", member, own.token ?? 0]);
    return;
  }
  const another = name === "granted" && config.flush && token !== own.token &&
    without !== "a holder that waits again still holds";
  if (name !== "gone" && name !== "waits" && !another) return;
  checkLoss(state, member, own);
  const withScript =
    without !== "a holder that lost the lock leaves its member";
  end(config, state, index, task, withScript);
}

/** Records that a lease ends although the server still has it. */
function checkLoss(state: State, member: number, own: Task): void {
  const valid = own.is === "h" && !state.flushed && isAlive(state, member) &&
    state.holders.some(([other]) => other === member);
  if (valid) state.wrong = `${member} ends a lease that is valid`;
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

/**
 * Asks the Python clients. With two connections, the subscription for their
 * replies is confirmed first. With one, it is sent together with the question.
 */
export function ask(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  const member = memberOf(index, task, own.operation);
  const early = config.without === "asking before listening";
  own.asked = config.twoConnections && !early ? LISTENING : ASKING;
  if (config.twoConnections) {
    sendSubscriptions(config, connection, [["subscribe R", member, 0]]);
  } else own.hears = true;
  if (own.asked === ASKING) send(connection, ["ask", member, 0]);
}

/** Ends a question, and discards its commands and messages in transit. */
export function unask(state: State, index: number, task: number): void {
  const connection = connectionAt(state, index);
  const own = at(connection.tasks, task);
  const member = memberOf(index, task, own.operation);
  if (own.asked === NOT_ASKED) return;
  own.asked = NOT_ASKED;
  delete own.hears;
  own.sharing = [];
  const isOther = ([name, id]: Command | Message) =>
    id !== member ||
    !["ask", "subscribe R", "asked", "reply", "not joined", "listens"]
      .includes(name);
  connection.commands = connection.commands.filter(isOther);
  connection.subscriptions = connection.subscriptions.filter(isOther);
  connection.messages = connection.messages.filter(isOther);
  connection.replies = connection.replies.filter(isOther);
  forget(state, requesterOf(member));
}
