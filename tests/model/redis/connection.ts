/** A connection of this package: its process, and messages in transit. */

import { at } from "../../support/values.ts";
import type { Step } from "./explorer.ts";
import { check, execute, heartbeat } from "./protocol.ts";
import {
  type Configuration,
  connectionAt,
  memberOf,
  NOT_ASKED,
  operationOf,
  OWN,
  type State,
  taskAt,
} from "./state.ts";
import {
  ask,
  end,
  giveUp,
  read,
  start,
  subscribeAgain,
  unask,
} from "./task.ts";

/** Adds a connection, which sends its first commands. */
export function begin(
  config: Configuration,
  state: State,
  index: number,
): void {
  state.connections.push({
    subscribed: OWN,
    commands: [],
    messages: [],
    tasks: at(config.connections, index).map(() => ({
      operation: 0,
      is: "f",
      asked: NOT_ASKED,
      sharing: [],
    })),
    process: "runs",
  });
  connectionAt(state, index).tasks.forEach((_, task) => {
    start(config, state, index, task);
  });
}

/** Adds a step that may happen next. */
type AddStep = (
  name: string,
  apply: (state: State) => void,
  isFault?: boolean,
) => void;

/** Returns every step that may happen next on a connection. */
export function connectionSteps(
  config: Configuration,
  state: State,
  index: number,
): Step<State>[] {
  const steps: Step<State>[] = [];
  const addStep: AddStep = (name, apply, isFault = false) =>
    steps.push({ name: `S${index} ${name}`, isFault, apply });
  transportSteps(config, state, index, addStep);
  const { process, tasks } = connectionAt(state, index);
  if (process === "runs") {
    tasks.forEach((_, task) => taskSteps(config, state, index, task, addStep));
  }
  return steps;
}

function transportSteps(
  config: Configuration,
  state: State,
  index: number,
  addStep: AddStep,
): void {
  const connection = connectionAt(state, index);
  const { commands, messages, process } = connection;
  const connected = connection.subscribed !== 0;
  const runs = process === "runs";
  if (commands.length > 0) {
    const [name, member] = at(commands, 0);
    addStep(
      `server: ${name} ${member}`,
      (next) => execute(config, next, index),
    );
  }
  if (runs && messages.length > 0) {
    const what = at(messages, 0).join(" ");
    addStep(`reads: ${what}`, (next) => read(config, next, index));
  } else if (runs && !connected) {
    addStep("reads the end", (next) => onConnectionEnd(config, next, index));
  }
  if (process === "crashed" && connected) {
    addStep("server: its connection ends", (next) => disconnect(next, index));
  }
  if (!runs || connection.tasks.every(({ is }) => is === "f")) return;
  if (config.crash) addStep("crashes", (next) => crash(next, index), true);
  if (config.kill && connected) {
    addStep("server: CLIENT KILL", (next) => disconnect(next, index), true);
  }
}

/**
 * Adds the steps of one task. A check is sent and executed in one step, because
 * it has no effect before, and is sent after all earlier commands.
 */
function taskSteps(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  addStep: AddStep,
): void {
  const { subscribed, commands, messages, tasks } = connectionAt(state, index);
  const { is, operation, asked, token } = at(tasks, task);
  const member = memberOf(index, task, operation);
  const { kind, waits } = operationOf(config, member);
  const notified = messages.some(([name, id]) =>
    id === member && (name === "waits" || name === "gone")
  );
  const quiet = subscribed !== 0 && commands.length === 0;
  if (is === "h") {
    addStep(
      `releases ${member}`,
      (next) => end(config, next, index, task, true),
    );
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
  if (quiet && waits && !notified && !config.noChecks) {
    addStep(`server: check ${member}`, (next) => check(config, next, member));
  }
  const mayAsk = kind === "s" || config.trustsPending;
  if (!quiet || !mayAsk || state.pythons.length === 0) return;
  if (asked === NOT_ASKED && !config.neverAsks) {
    addStep(`asks for ${member}`, (next) => ask(next, index, task));
  } else if (asked >= 0) {
    addStep(`asks no more for ${member}`, (next) => unask(next, index, task));
  }
}

function crash(state: State, index: number): void {
  const connection = connectionAt(state, index);
  stop(state, index);
  connection.process = "crashed";
}

/** The process reads the end of its connection, and never connects again. */
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
  connection.tasks.forEach((own, task) => {
    const { commands } = connection;
    unask(state, index, task);
    // Commands that are sent may still arrive.
    connection.commands = commands;
    own.is = "f";
  });
  connection.messages = [];
}

/** The server discards unread commands, and ends the subscriptions. */
function disconnect(state: State, index: number): void {
  const connection = connectionAt(state, index);
  connection.subscribed = 0;
  connection.commands = [];
}
