/** A session of ours: what its process does, and what is under way to it. */

import type { Step } from "./explorer.ts";
import { check, execute, heartbeat } from "./protocol.ts";
import {
  type Configuration,
  entryOf,
  NOT_ASKED,
  operationOf,
  OWN,
  type State,
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

/** A session that has sent its first commands. */
export function begin(
  config: Configuration,
  state: State,
  index: number,
): void {
  state.sessions.push({
    subscribed: OWN,
    commands: [],
    messages: [],
    tasks: config.sessions[index].map(() => ({
      operation: 0,
      is: "f",
      asked: NOT_ASKED,
      sharing: [],
    })),
    process: "runs",
  });
  state.sessions[index].tasks.forEach((_, task) => {
    start(config, state, index, task);
  });
}

/** Notes a step that may happen next. */
type May = (
  name: string,
  take: (state: State) => void,
  isFault?: boolean,
) => void;

/** Everything that may happen next to a session. */
export function sessionSteps(
  config: Configuration,
  state: State,
  index: number,
): Step<State>[] {
  const steps: Step<State>[] = [];
  const may: May = (name, take, isFault = false) =>
    steps.push({ name: `S${index} ${name}`, isFault, take });
  connectionSteps(config, state, index, may);
  const { process, tasks } = state.sessions[index];
  if (process === "runs") {
    tasks.forEach((_, task) => taskSteps(config, state, index, task, may));
  }
  return steps;
}

function connectionSteps(
  config: Configuration,
  state: State,
  index: number,
  may: May,
): void {
  const session = state.sessions[index];
  const { commands, messages, process } = session;
  const connected = session.subscribed !== 0;
  const runs = process === "runs";
  if (commands.length > 0) {
    const [name, entry] = commands[0];
    may(`server: ${name} ${entry}`, (next) => execute(config, next, index));
  }
  if (runs && messages.length > 0) {
    const what = messages[0].join(" ");
    may(`reads: ${what}`, (next) => read(config, next, index));
  } else if (runs && !connected) {
    may("reads the end", (next) => lose(config, next, index));
  }
  if (process === "crashed" && connected) {
    may("server: its connection ends", (next) => disconnect(next, index));
  }
  if (!runs || session.tasks.every(({ is }) => is === "f")) return;
  if (config.crash) may("crashes", (next) => crash(next, index), true);
  if (config.kill && connected) {
    may("server: CLIENT KILL", (next) => disconnect(next, index), true);
  }
}

/**
 * A check is sent and executed in one step: until then it changes nothing, and
 * it is not sent before what was sent earlier has been executed.
 */
function taskSteps(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  may: May,
): void {
  const { subscribed, commands, messages, tasks } = state.sessions[index];
  const { is, operation, asked, token } = tasks[task];
  const entry = entryOf(index, task, operation);
  const { kind, waits } = operationOf(config, entry);
  const answered = messages.some(([name, who]) =>
    who === entry && (name === "waits" || name === "gone")
  );
  const quiet = subscribed !== 0 && commands.length === 0;
  if (is === "h") {
    may(`releases ${entry}`, (next) => end(config, next, index, task, true));
    if (config.flush && quiet && !answered) {
      may(`server: heartbeat ${entry}`, (next) => {
        next.sessions[index].tasks[task].beaten = next.flushed;
        heartbeat(config, next, entry, token);
      });
    }
  }
  if (is !== "w") return;
  if (config.giveUp) {
    const take = (next: State) => giveUp(config, next, index, task);
    may(`gives up ${entry}`, take, true);
  }
  if (quiet && waits && !answered && !config.noChecks) {
    may(`server: check ${entry}`, (next) => check(config, next, entry));
  }
  const mayAsk = kind === "s" || config.trustsPending;
  if (!quiet || !mayAsk || state.pythons.length === 0) return;
  if (asked === NOT_ASKED && !config.neverAsks) {
    may(`asks for ${entry}`, (next) => ask(next, index, task));
  } else if (asked >= 0) {
    may(`asks no more for ${entry}`, (next) => unask(next, index, task));
  }
}

function crash(state: State, index: number): void {
  const session = state.sessions[index];
  stop(state, index);
  session.process = "crashed";
}

/** A process that reads the end of its connection, and never comes back. */
function lose(config: Configuration, state: State, index: number): void {
  const session = state.sessions[index];
  if (config.without === "subscribing again") {
    subscribeAgain(config, session);
    return;
  }
  stop(state, index);
  session.process = "lost";
}

function stop(state: State, index: number): void {
  const session = state.sessions[index];
  session.tasks.forEach((own, task) => {
    const { commands } = session;
    unask(state, index, task);
    // What was sent may still arrive.
    session.commands = commands;
    own.is = "f";
  });
  session.messages = [];
}

/** The server drops what it has not read, and ends the subscriptions. */
function disconnect({ sessions }: State, index: number): void {
  sessions[index].subscribed = 0;
  sessions[index].commands = [];
}
