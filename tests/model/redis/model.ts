/** The system that is explored: all steps, and what must hold after each. */

import type { Step, System } from "./explorer.ts";
import { keyOf } from "./key.ts";
import { newcomer, pythonSteps } from "./python.ts";
import { begin, sessionSteps } from "./session.ts";
import {
  type Configuration,
  copyOf,
  entryOf,
  type Kind,
  operationOf,
  sessionOf,
  type State,
} from "./state.ts";

/** Somebody who has been told so, and whose connection stands. */
interface Holder {
  who: string;
  kind: Kind;
  entry?: number;
}

export function model(config: Configuration): System<State> {
  return {
    initial: () => initial(config),
    copy: copyOf,
    key: keyOf,
    steps: (state) => steps(config, state),
    problem: (state) => problem(config, state),
    isFinal,
    witnesses: {
      "a session holds": (state) => ours(config, state).length > 0,
      "two sessions hold": (state) => ours(config, state).length > 1,
      "Python holds": (state) => pythons(config, state).length > 0,
      "two of Python's hold": (state) => pythons(config, state).length > 1,
      "a session and Python hold": (state) =>
        ours(config, state).length > 0 && pythons(config, state).length > 0,
      "two of Python's hold against each other": (state) =>
        conflict(pythons(config, state)) !== undefined,
      "a session believes what is no more": (state) =>
        state.sessions.some(({ subscribed, tasks }) =>
          subscribed === 0 && tasks.some(({ is }) => is === "h")
        ),
      "entries of the dead are left": (state) =>
        isFinal(state) && keys(state) > 0,
    },
  };
}

function initial(config: Configuration): State {
  const state: State = {
    queue: [],
    holders: [],
    lastExclusive: 0,
    largest: 0,
    sessions: [],
    pythons: (config.pythons ?? []).map(newcomer),
  };
  config.sessions.forEach((_, index) => begin(config, state, index));
  return state;
}

function steps(config: Configuration, state: State): Step<State>[] {
  const flush: Step<State> = { name: "FLUSHALL", isFault: true, take: lose };
  return [
    ...config.flush && !state.flushed ? [flush] : [],
    ...state.sessions.flatMap((_, index) => sessionSteps(config, state, index)),
    ...state.pythons.flatMap((_, index) => pythonSteps(config, state, index)),
  ];
}

/** The server loses its data. */
function lose(state: State): void {
  state.queue = [];
  state.holders = [];
  state.flushed = true;
}

/** The entitled of ours. */
function ours(config: Configuration, { sessions }: State): Holder[] {
  return sessions.flatMap(({ process, subscribed, tasks }, session) =>
    tasks.flatMap(({ is, operation }, task) => {
      if (process !== "runs" || subscribed === 0 || is !== "h") return [];
      const entry = entryOf(session, task, operation);
      const { kind } = operationOf(config, entry);
      return [{ who: `entry ${entry}`, kind, entry }];
    })
  );
}

function pythons(config: Configuration, state: State): Holder[] {
  return state.pythons.flatMap(({ at }, index): Holder[] => {
    const kind = config.pythons![index] === "4 reader" ? "s" : "x";
    return at === "hold" ? [{ who: `Python${index}`, kind }] : [];
  });
}

/** Who of these should not hold beside others. */
function conflict(holders: Holder[]): string | undefined {
  const found = holders.find(({ kind }) =>
    typeof kind === "number"
      ? holders.length > kind
      : holders.length > 1 && holders.some((other) => other.kind !== "s")
  );
  return found && `${holders.map(({ who }) => who).join(", ")} hold at once`;
}

function problem(config: Configuration, state: State): string | undefined {
  if (state.wrong !== undefined) return state.wrong;
  if (state.flushed) return deceived(state) ?? leftOver(state);
  const own = ours(config, state);
  const foreign = pythons(config, state);
  for (const some of [own, ...foreign.map((one) => [...own, one])]) {
    const found = own.length > 0 ? conflict(some) : undefined;
    if (found) return found;
  }
  const unknown = own.find(({ entry }) =>
    !state.holders.some(([other]) => other === entry)
  );
  if (unknown) return `${unknown.who} holds what the server does not know of`;
  return leftOver(state);
}

/** Who goes on although its heartbeat was answered after the loss. */
function deceived({ sessions, holders }: State): string | undefined {
  const found = sessions.findIndex(({ messages, tasks }, session) =>
    messages.length === 0 && tasks.some((own, task) => {
      const entry = entryOf(session, task, own.operation);
      return own.is === "h" && own.beaten &&
        !holders.some(([other, token]) =>
          other === entry && token === own.token
        );
    })
  );
  return found < 0 ? undefined : `S${found} goes on with what was lost`;
}

/** Keys that stay although nobody holds, waits or has sent anything. */
function leftOver(state: State): string | undefined {
  const quiet = state.sessions.every((
    { process, subscribed, commands, tasks },
  ) =>
    commands.length === 0 && tasks.every(({ is }) => is === "f") &&
    (process !== "crashed" || subscribed === 0)
  );
  const living = [...state.queue, ...state.holders.map(([entry]) => entry)]
    .filter((entry) => state.sessions[sessionOf(entry)].subscribed !== 0);
  return quiet && living.length > 0
    ? `left by a session that lives: ${living}`
    : undefined;
}

function keys({ queue, holders }: State): number {
  return queue.length + holders.length;
}

function isFinal({ sessions, pythons }: State): boolean {
  return sessions.every(({ commands, tasks }) =>
    commands.length === 0 && tasks.every(({ is }) => is === "f")
  ) && pythons.every(({ at }) => at === "end");
}
