/** A session of this package: its process, and what is in transit. */

import { at } from "../../support/values.ts";
import type { Step } from "./explorer.ts";
import {
  execute,
  executeSubscription,
  heartbeat,
  look,
  refuse,
} from "./protocol.ts";
import {
  type Configuration,
  type Connection,
  connectionAt,
  connectionOf,
  isActive,
  memberOf,
  type Message,
  NOT_ASKED,
  operationOf,
  OWN,
  type State,
  taskAt,
} from "./state.ts";
import {
  ask,
  end,
  expire,
  giveUp,
  read,
  start,
  subscribeAgain,
  transfer,
  unask,
  unsubscribe,
} from "./task.ts";

/** Adds a session, which sends its first commands, unless it begins late. */
export function begin(
  config: Configuration,
  state: State,
  index: number,
): void {
  const isLate = config.lastIsLate && index === config.connections.length - 1;
  state.connections.push({
    subscribed: 0,
    listens: "no",
    commands: [],
    messages: [],
    subscriptions: [],
    replies: [],
    tasks: at(config.connections, index).map(() => ({
      operation: 0,
      is: "f",
      asked: NOT_ASKED,
      sharing: [],
    })),
    process: "off",
  });
  if (!isLate) connect(config, state, index);
}

function connect(config: Configuration, state: State, index: number): void {
  const connection = connectionAt(state, index);
  connection.process = "runs";
  connection.subscribed = OWN;
  connection.tasks.forEach((own, task) => {
    if (operationOf(config, memberOf(index, task, 0)).adopts) own.is = "i";
    else start(config, state, index, task);
  });
}

/** Adds a step that may happen next. */
type AddStep = (
  name: string,
  apply: (state: State) => void,
  isFault?: boolean,
) => void;

/** Returns every step that may happen next in a session. */
export function connectionSteps(
  config: Configuration,
  state: State,
  index: number,
): Step<State>[] {
  const steps: Step<State>[] = [];
  const addStep: AddStep = (name, apply, isFault = false) =>
    steps.push({ name: `S${index} ${name}`, isFault, apply });
  const { process, tasks } = connectionAt(state, index);
  if (process === "off") {
    if (state.behind) {
      addStep("connects", (next) => connect(config, next, index));
    }
    return steps;
  }
  serverSteps(config, state, index, addStep);
  if (process === "runs") {
    readSteps(config, state, index, addStep);
    lingerSteps(config, state, index, addStep);
    tasks.forEach((_, task) => taskSteps(config, state, index, task, addStep));
  } else endSteps(config, state, index, addStep);
  return steps;
}

/** The server executes what it has received, or ends a connection. */
function serverSteps(
  config: Configuration,
  state: State,
  index: number,
  addStep: AddStep,
): void {
  const connection = connectionAt(state, index);
  const { commands, subscriptions, subscribed } = connection;
  if (commands.length > 0) {
    const [name, member] = at(commands, 0);
    addStep(
      `server: ${name} ${member}`,
      (next) => execute(config, next, index),
    );
    if (config.refuses && (name === "acquire" || name === "release")) {
      addStep(
        `server: refuses ${name} ${member}`,
        (next) => refuse(config, next, index),
        true,
      );
    }
  }
  if (subscriptions.length > 0) {
    const [name, member] = at(subscriptions, 0);
    addStep(
      `server: ${name} ${member}`,
      (next) => executeSubscription(config, next, index),
    );
  }
  if (
    !config.kill || connection.process !== "runs" || hasFinished(connection)
  ) {
    return;
  }
  if (subscribed) {
    addStep(
      "server: CLIENT KILL",
      (next) => disconnect(config, next, index),
      true,
    );
  }
  if (config.twoConnections && !connection.commandsEnded) {
    addStep(
      "server: ends the other connection",
      (next) => endCommands(next, index),
      true,
    );
  }
}

const hasFinished = ({ tasks }: Connection) =>
  tasks.every(({ is }) => is === "f" || is === "i");

/** The process reads messages, replies, and the ends of its connections. */
function readSteps(
  config: Configuration,
  state: State,
  index: number,
  addStep: AddStep,
): void {
  const connection = connectionAt(state, index);
  const { messages, replies, subscribed, commandsEnded } = connection;
  for (const from of ["messages", "replies"] as const) {
    const [first] = connection[from];
    if (first) {
      addStep(
        `reads ${first.join(" ")} from ${from}`,
        (next) => read(config, next, index, from),
      );
    }
  }
  const ignores = config.without === "the end of the subscriber is not an end";
  const ended = messages.length === 0 && subscribed === 0 && !ignores ||
    replies.length === 0 && commandsEnded;
  if (ended) {
    addStep("reads the end", (next) => onConnectionEnd(config, next, index));
  }
  const mayCrash = config.crash === "holders"
    ? connection.tasks.some(({ is }) => is === "h")
    : config.crash && !hasFinished(connection);
  if (mayCrash) addStep("crashes", (next) => crash(next, index), true);
}

/**
 * The subscription ends, at any moment after the last acquisition. Without
 * Python clients, that matters only to acquisitions that follow.
 */
function lingerSteps(
  config: Configuration,
  state: State,
  index: number,
  addStep: AddStep,
): void {
  const { without } = config;
  const { tasks, listens } = connectionAt(state, index);
  const ends = without === "the linger ends during an acquisition" ||
    !tasks.some(isActive) && without !== "the linger does not end";
  const matters = config.pythons || tasks.some(({ is }) => is === "n");
  if (listens === "yes" && ends && matters) {
    addStep("unsubscribes", (next) => unsubscribe(config, next, index));
  }
  tasks.forEach(({ is, operation }, task) => {
    const begins = is === "n" || is === "i" && state.offer !== undefined;
    if (!begins) return;
    addStep(
      `begins ${memberOf(index, task, operation)}`,
      (next) => start(config, next, index, task),
    );
  });
}

/** The connections of a process that has ended end later. */
function endSteps(
  config: Configuration,
  state: State,
  index: number,
  addStep: AddStep,
): void {
  const { subscribed, commands } = connectionAt(state, index);
  const ends = subscribed !== 0 &&
    (!config.silent || isProbed(config, state, index));
  if (ends) {
    addStep(
      "server: its connection ends",
      (next) => disconnect(config, next, index),
    );
  }
  if (config.twoConnections && commands.length > 0) {
    addStep(
      "server: its other connection ends",
      (next) => endCommands(next, index),
    );
  }
}

/**
 * Returns whether a waiter that is alive probes this session: the head of the
 * queue probes the holders, and every other waiter its predecessor.
 */
function isProbed(
  { without }: Configuration,
  { queue, holders, connections }: State,
  index: number,
): boolean {
  return queue.some((member, position) => {
    const { process } = at(connections, connectionOf(member));
    if (process !== "runs") return false;
    const inTheWay = position > 0
      ? without === "only the head probes" ? [] : [at(queue, position - 1)]
      : without === "only predecessors are probed"
      ? []
      : holders.map(([holder]) => holder);
    return inTheWay.some((other) => connectionOf(other) === index);
  });
}

/**
 * Adds the steps of one task. A look is sent and executed in one step, because
 * it has no effect before, and is sent after all earlier scripts.
 */
function taskSteps(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  addStep: AddStep,
): void {
  const connection = connectionAt(state, index);
  const { subscribed, commands, commandsEnded, tasks } = connection;
  const { is, operation, token } = at(tasks, task);
  const member = memberOf(index, task, operation);
  const quiet = subscribed !== 0 && commands.length === 0 && !commandsEnded;
  const notified = [...connection.messages, ...connection.replies]
    .some((message) => isReply(config, message, member));
  const { gives } = operationOf(config, member);
  if (is === "h" && gives) {
    addStep(
      `transfers ${member}`,
      (next) => transfer(config, next, index, task),
    );
  } else if (is === "h") {
    addStep(
      `releases ${member}`,
      (next) => end(config, next, index, task, true),
    );
  } else if (is === "o") {
    addStep(
      `removes the offer of ${member}`,
      (next) => expire(config, next, index, task),
    );
  }
  if (is === "h") {
    if (config.flush && quiet && !notified) {
      addStep(`server: heartbeat ${member}`, (next) => {
        taskAt(next, index, task).beaten = next.flushed;
        heartbeat(config, next, member, token);
      });
    }
  }
  if (is !== "w") return;
  if (config.giveUp) {
    const apply = (next: State) => giveUp(config, next, index, task);
    addStep(`gives up ${member}`, apply, true);
  }
  if (quiet) waiterSteps(config, state, member, notified, addStep);
}

/** Whether a message is the reply to a script. One is under way at a time. */
function isReply(
  { twoConnections }: Configuration,
  [name, id]: Message,
  member: number,
): boolean {
  return id === member &&
    (name === "waits" || name === "gone" || name === "refused" ||
      name === "granted" && twoConnections === true);
}

function waiterSteps(
  config: Configuration,
  state: State,
  member: number,
  notified: boolean,
  addStep: AddStep,
): void {
  const index = connectionOf(member);
  const { tasks } = connectionAt(state, index);
  const task = tasks.findIndex(({ operation }, task) =>
    memberOf(index, task, operation) === member
  );
  const { unsent, near, asked } = at(tasks, task);
  const { kind, waits } = operationOf(config, member);
  const looks = config.without === "only the head looks"
    ? state.queue[0] === member
    : near || !config.lookers;
  if (waits && looks && !notified && !unsent && !config.noLooks) {
    addStep(`server: look ${member}`, (next) => look(config, next, member));
  }
  const mayAsk = kind === "s" || config.trustsPending;
  if (!mayAsk || unsent || state.pythons.length === 0) return;
  if (asked === NOT_ASKED && !config.neverAsks) {
    addStep(`asks for ${member}`, (next) => ask(config, next, index, task));
  } else if (asked >= 0) {
    addStep(`asks no more for ${member}`, (next) => unask(next, index, task));
  }
}

function crash(state: State, index: number): void {
  const connection = connectionAt(state, index);
  stop(state, index);
  connection.process = "crashed";
}

/** The process reads the end of a connection, and never connects again. */
function onConnectionEnd(
  config: Configuration,
  state: State,
  index: number,
): void {
  const connection = connectionAt(state, index);
  if (config.without === "subscribing again") {
    subscribeAgain(config, connection);
    return;
  }
  stop(state, index);
  connection.process = "lost";
}

function stop(state: State, index: number): void {
  const connection = connectionAt(state, index);
  const { commands, subscriptions } = connection;
  connection.tasks.forEach((own, task) => {
    unask(state, index, task);
    own.is = "f";
    delete own.unsent;
    delete own.near;
  });
  // Commands that are sent may still arrive.
  connection.commands = commands;
  connection.subscriptions = subscriptions;
  connection.messages = [];
  connection.replies = [];
  connection.listens = "no";
}

/**
 * The server ends the connection that subscribes, and discards what it has not
 * read from it. With two connections, scripts travel on the other one.
 */
function disconnect(
  { twoConnections }: Configuration,
  state: State,
  index: number,
): void {
  const connection = connectionAt(state, index);
  connection.subscribed = 0;
  connection.subscriptions = [];
  if (!twoConnections) connection.commands = [];
}

function endCommands(state: State, index: number): void {
  const connection = connectionAt(state, index);
  connection.commandsEnded = true;
  connection.commands = [];
}

/** A replica takes over. All connections end. */
export function failOver(config: Configuration, state: State): void {
  state.behind = true;
  if (config.clock === "set back") return;
  if (config.clock === "failover without tokens") state.clock = 0;
  state.connections.forEach(({ process }, index) => {
    if (process === "off") return;
    disconnect(config, state, index);
    endCommands(state, index);
  });
}
