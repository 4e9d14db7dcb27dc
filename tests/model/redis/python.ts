/**
 * Participants of Python's, after portalocker's sources (2.2.1 and 4.4.0).
 * What they may do at any moment of their own timeouts they may do here at any
 * moment. 2.x's questions decide nothing that its timeout would not, so they
 * are left out. A question whose asker has moved on is no more in the state.
 */

import type { Step } from "./explorer.ts";
import { resolve, verdict } from "./election.ts";
import { subscribers } from "./server.ts";
import type { Answer, Configuration, Python, State } from "./state.ts";

/** A participant that has not begun. */
export function newcomer(): Python {
  return {
    subscribed: false,
    at: "off",
    mode: "p",
    elected: false,
    confirms: false,
    leaves: false,
    expected: 0,
    answers: [],
    questions: [],
  };
}

/** 2.x answers with what is no record: exclusive, and by a later name. */
const LEGACY = 1000;

/** Everything that may happen next to a participant of Python's. */
export function pythonSteps(
  config: Configuration,
  state: State,
  index: number,
): Step<State>[] {
  const python = state.pythons[index];
  const old = config.pythons![index] === "2 writer";
  const steps: Step<State>[] = [];
  const may = (
    name: string,
    take: (own: Python, state: State) => void,
    isFault = false,
  ) =>
    steps.push({
      name: `Python${index} ${name}`,
      isFault,
      take: (next) => take(next.pythons[index], next),
    });
  const { at } = python;
  if (at === "off") {
    may("ends", (own) => own.at = "end", true);
    may("subscribes", (own) => subscribe(config, own, index));
    if (old && config.overtaking) {
      may("counts first", (own, next) => {
        subscribe(config, own, index);
        own.at = subscribers(next) === 2 ? "hold" : "leave";
      });
    }
  } else if (at === "count") {
    may("counts", (own, next) => count(config, own, next, index));
    // Out of time, or its promotion is not confirmed in time.
    if (python.elected || python.confirms) {
      may("gives up", (own) => leave(own, !own.confirms), true);
    }
  } else if (at === "ask") {
    may("publishes", (own, next) => publish(own, next, index));
  } else if (at === "collect") {
    may("hears too little", (_, next) => decide(config, next, index, null));
    if (python.answers.length >= python.expected) {
      may("counts again", (own, next) => {
        const same = subscribers(next) === own.expected;
        forget(next, index);
        if (same) own.at = "decide";
        else decide(config, next, index, null);
      });
    }
  } else if (at === "alone") {
    may("sees that it is alone", (own) => beAlone(config, own, index));
  } else if (at === "decide") {
    may("decides", (own, next) => decide(config, next, index, own.answers));
  } else if (at === "hold") may("releases", (own) => leave(own, true));
  else if (at === "leave") may("unsubscribes", (own) => unsubscribe(own));
  if (config.crash && python.subscribed) {
    may("crashes", (own, next) => {
      forget(next, index);
      Object.assign(own, newcomer(), { at: "end" });
    }, true);
  }
  for (const who of python.questions) {
    if (config.answerFirst && sessionsStillAsked(state, who)) continue;
    may(`answers ${who}`, (own, next) => answerOne(own, next, index, old, who));
  }
  return steps;
}

/** Hands an answer to who asked, if it still listens. */
export function answer(state: State, who: number, record: Answer): void {
  const python = state.pythons[who];
  if (python) {
    const listens = python.at === "collect" &&
      python.answers.length < python.expected;
    if (!listens) return;
    python.answers.push(record);
    python.answers.sort((a, b) => a.id - b.id);
    return;
  }
  const entry = who - LEGACY;
  const session = state.sessions[Math.floor(entry / 100)];
  session.messages.push(["answer", entry, record.id, record.mode]);
}

/** Nobody answers any more what this one has asked. */
export function forget(state: State, who: number): void {
  for (const session of state.sessions) {
    session.messages = session.messages.filter(([name, asker]) =>
      name !== "ping" || asker !== who
    );
  }
  for (const python of state.pythons) {
    python.questions = python.questions.filter((asker) => asker !== who);
  }
}

function sessionsStillAsked({ sessions }: State, who: number): boolean {
  return sessions.some(({ subscribed, messages }) =>
    subscribed !== 0 &&
    messages.some(([name, asker]) => name === "ping" && asker === who)
  );
}

/** A reader says that it shares before it has the lock. */
function subscribe(config: Configuration, own: Python, index: number): void {
  own.subscribed = true;
  own.at = "count";
  const kind = config.pythons![index];
  own.mode = kind === "4 reader" ? "s" : kind === "4 writer" ? "p" : "x";
}

/**
 * Its thread ends, and with it the answers: after the next question or before.
 * The subscription stays a bit. Who has held says so until the end.
 */
function leave(own: Python, forGood: boolean): void {
  if (own.confirms && own.at !== "hold") own.mode = "p";
  own.at = "leave";
  own.leaves = forGood;
  own.elected = false;
  own.confirms = false;
}

function unsubscribe(own: Python): void {
  const at = own.leaves ? "end" : "off";
  Object.assign(own, newcomer(), { at });
}

function count(
  config: Configuration,
  own: Python,
  state: State,
  index: number,
): void {
  const number = subscribers(state);
  const kind = config.pythons![index];
  if (kind === "2 writer") {
    if (number === 1) own.at = "hold";
    else leave(own, false);
  } else if (number > 1) {
    own.at = "ask";
    own.expected = number;
  } else own.at = "alone";
}

/** In the meantime others may have come, and have had answers. */
function beAlone(config: Configuration, own: Python, index: number): void {
  if (config.pythons![index] === "4 reader" || own.confirms) own.at = "hold";
  else {
    own.at = "count";
    own.mode = "x";
    own.confirms = true;
  }
}

/** Its own answer is the first. */
function publish(own: Python, state: State, index: number): void {
  own.at = "collect";
  own.answers = [{ id: index, mode: own.mode, elected: own.elected }];
  for (const session of state.sessions) {
    const hears = session.process === "runs" && session.subscribed & 2;
    if (hears) session.messages.push(["ping", index, 0, "p"]);
  }
  state.pythons.forEach((other, at) => {
    if (other.subscribed && at !== index) other.questions.push(index);
  });
}

function answerOne(
  own: Python,
  state: State,
  index: number,
  old: boolean,
  who: number,
): void {
  own.questions = own.questions.filter((other) => other !== who);
  answer(
    state,
    who,
    old
      ? { id: LEGACY + index, mode: "x", elected: null }
      : { id: index, mode: own.mode, elected: own.elected },
  );
}

function decide(
  config: Configuration,
  state: State,
  index: number,
  holders: Answer[] | null,
): void {
  const own = state.pythons[index];
  forget(state, index);
  own.answers = [];
  own.expected = 0;
  if (own.confirms) {
    const found = verdict(index, holders);
    if (found === "leave") leave(own, false);
    else own.at = found === "hold" ? "hold" : "count";
  } else if (config.pythons![index] === "4 reader") {
    if (holders?.every(({ mode }) => mode === "s")) own.at = "hold";
    else leave(own, false);
  } else {
    const found = resolve(own, index, holders);
    if (found === "leave") return leave(own, false);
    own.at = "count";
    own.confirms = found === "hold";
    if (own.confirms) own.mode = "x";
  }
}
