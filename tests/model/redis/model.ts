/** The explored system: all steps, and the invariants after each step. */

import type { Step, System } from "./explorer.ts";
import { keyOf } from "./key.ts";
import { newPython, pythonSteps } from "./python.ts";
import { begin, connectionSteps, failOver } from "./connection.ts";
import {
  type Configuration,
  type Connection,
  connectionAt,
  connectionOf,
  copyState,
  type Kind,
  memberOf,
  operationOf,
  type State,
  type Task,
} from "./state.ts";

/** A client that assumes it holds the lock, and whose session is alive. */
interface Holder {
  name: string;
  kind: Kind;
  member?: number;
}

export function model(config: Configuration): System<State> {
  return {
    initial: () => initial(config),
    copy: copyState,
    key: keyOf,
    steps: (state) => steps(config, state),
    findProblem: (state) => findProblem(config, state),
    isFinal: (state) => isFinal(config, state),
    witnesses: {
      "a connection holds": (state) =>
        connectionHolders(config, state).length > 0,
      "two connections hold": (state) =>
        connectionHolders(config, state).length > 1,
      "Python holds": (state) => pythonHolders(config, state).length > 0,
      "two Python clients hold": (state) =>
        pythonHolders(config, state).length > 1,
      "a connection and Python hold": (state) =>
        connectionHolders(config, state).length > 0 &&
        pythonHolders(config, state).length > 0,
      "two Python clients hold against each other": (state) =>
        findConflict(pythonHolders(config, state)) !== undefined,
      "a connection assumes a lock that it has lost": (state) =>
        state.connections.some(({ subscribed, tasks }) =>
          subscribed === 0 && tasks.some(({ is }) => is === "h")
        ),
      "members of dead connections are left": (state) =>
        isFinal(config, state) && keys(state) > 0,
    },
  };
}

function initial(config: Configuration): State {
  const state: State = {
    queue: [],
    holders: [],
    clock: 0,
    last: 0,
    connections: [],
    pythons: (config.pythons ?? []).map(newPython),
  };
  config.connections.forEach((_, index) => begin(config, state, index));
  return state;
}

function steps(config: Configuration, state: State): Step<State>[] {
  const flush: Step<State> = {
    name: "FLUSHALL",
    isFault: true,
    apply: loseData,
  };
  const clock: Step<State> = {
    name: config.clock ?? "",
    isFault: true,
    apply: (next) => failOver(config, next),
  };
  return [
    ...config.flush && !state.flushed ? [flush] : [],
    ...config.clock && !state.behind ? [clock] : [],
    ...state.connections.flatMap((_, index) =>
      connectionSteps(config, state, index)
    ),
    ...state.pythons.flatMap((_, index) => pythonSteps(config, state, index)),
  ];
}

/** The server loses its data. */
function loseData(state: State): void {
  state.queue = [];
  state.holders = [];
  state.clock = 0;
  state.flushed = true;
}

/** Returns the holders among the connections of this package. */
function connectionHolders(
  config: Configuration,
  { connections }: State,
): Holder[] {
  const neverReads =
    config.without === "the end of the subscriber is not an end";
  return connections.flatMap(({ process, subscribed, tasks }, connection) =>
    tasks.flatMap(({ is, operation }, task) => {
      const knows = subscribed !== 0 || neverReads;
      if (process !== "runs" || !knows || is !== "h") return [];
      const member = memberOf(connection, task, operation);
      const { kind } = operationOf(config, member);
      return [{ name: `member ${member}`, kind, member }];
    })
  );
}

function pythonHolders(config: Configuration, state: State): Holder[] {
  return state.pythons.flatMap(({ at }, index): Holder[] => {
    const kind = config.pythons![index] === "4 reader" ? "s" : "x";
    return at === "hold" ? [{ name: `Python${index}`, kind }] : [];
  });
}

/** Returns which holders exclude each other, if any do. */
function findConflict(holders: Holder[]): string | undefined {
  const found = holders.find(({ kind }) =>
    typeof kind === "number"
      ? holders.length > kind
      : holders.length > 1 && holders.some((other) => other.kind !== "s")
  );
  return found && `${holders.map(({ name }) => name).join(", ")} hold at once`;
}

function findProblem(config: Configuration, state: State): string | undefined {
  if (state.wrong !== undefined) return state.wrong;
  if (state.flushed) return findDeceivedHolder(state) ?? findLeftBehind(state);
  const ours = connectionHolders(config, state);
  const theirs = pythonHolders(config, state);
  for (const some of [ours, ...theirs.map((one) => [...ours, one])]) {
    const found = ours.length > 0 ? findConflict(some) : undefined;
    if (found) return found;
  }
  const unknown = ours.find(({ member }) =>
    !state.holders.some(([other]) => other === member)
  );
  if (unknown) {
    return `${unknown.name} holds a lock that the server has not recorded`;
  }
  return findLeftBehind(state);
}

/** Returns a holder that continues although a heartbeat reported the loss. */
function findDeceivedHolder(
  { connections, holders }: State,
): string | undefined {
  const found = connections.findIndex((session, connection) =>
    !isInTransit(session) && session.tasks.some((own, task) => {
      const member = memberOf(connection, task, own.operation);
      return own.is === "h" && own.beaten &&
        !holders.some(([other, token]) =>
          other === member && token === own.token
        );
    })
  );
  return found < 0 ? undefined : `S${found} continues with a lost lock`;
}

/** Whether a session will read or send more about its acquisitions. */
function isInTransit({ commands, messages, replies }: Connection): boolean {
  return commands.length + messages.length + replies.length > 0;
}

/** Returns members that remain after every task has ended. */
function findLeftBehind(state: State): string | undefined {
  const quiet = state.connections.every((session) =>
    session.commands.length === 0 && session.tasks.every(hasEnded) &&
    (isRunning(session) || session.subscribed === 0) &&
    ![...session.messages, ...session.replies].some(([name]) =>
      name === "refused"
    )
  );
  const alive = [...state.queue, ...state.holders.map(([member]) => member)]
    .filter((member) =>
      connectionAt(state, connectionOf(member)).subscribed !== 0
    );
  return quiet && alive.length > 0
    ? `left by a connection that is alive: ${alive}`
    : undefined;
}

/** Whether a session will not read the end of a connection. */
const isRunning = ({ process, commandsEnded }: Connection) =>
  process === "runs" && !commandsEnded;

/** Whether a task has ended, or waits for a lease that may never be offered. */
const hasEnded = ({ is }: Task) => is === "f" || is === "i";

function keys({ queue, holders }: State): number {
  return queue.length + holders.length;
}

/** Every task has ended, and no session keeps Python clients waiting. */
function isFinal(
  config: Configuration,
  { connections, pythons }: State,
): boolean {
  return connections.every((session) =>
    session.commands.length === 0 && session.subscriptions.length === 0 &&
    session.tasks.every(hasEnded) &&
    (session.listens === "no" || !config.pythons)
  ) && pythons.every(({ at }) => at === "end");
}
