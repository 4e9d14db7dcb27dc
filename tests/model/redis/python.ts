/**
 * Python clients, following the sources of portalocker 2.2.1 and 4.4.0. What a
 * timeout of theirs may cause at any moment can happen here at any moment. The
 * questions of 2.x are left out, because its timeout has the same effects. A
 * question that its requester has abandoned is not part of the state.
 */

import type { Step } from "./explorer.ts";
import { resolve, verdict } from "./election.ts";
import { subscribers } from "./server.ts";
import {
  type Configuration,
  connectionAt,
  connectionOf,
  type Python,
  pythonAt,
  type Reply,
  type State,
  taskAt,
  taskOf,
} from "./state.ts";

/** Returns a Python client that has not started. */
export function newPython(): Python {
  return {
    subscribed: false,
    at: "off",
    mode: "p",
    elected: false,
    confirms: false,
    leaves: false,
    expected: 0,
    replies: [],
    questions: [],
  };
}

/** The identifiers of 2.x, whose replies count as exclusive, sort last. */
const LEGACY = 1000;

/** Returns every step that may happen next in a Python client. */
export function pythonSteps(
  config: Configuration,
  state: State,
  index: number,
): Step<State>[] {
  const python = pythonAt(state, index);
  const old = config.pythons![index] === "2 writer";
  const steps: Step<State>[] = [];
  const addStep = (
    name: string,
    apply: (own: Python, state: State) => void,
    isFault = false,
  ) =>
    steps.push({
      name: `Python${index} ${name}`,
      isFault,
      apply: (next) => apply(pythonAt(next, index), next),
    });
  const { at } = python;
  if (at === "off") {
    addStep("ends", (own) => own.at = "end", true);
    addStep("subscribes", (own) => subscribe(config, own, index));
    if (old && config.overtaking) {
      addStep("counts first", (own, next) => {
        subscribe(config, own, index);
        own.at = subscribers(next) === 2 ? "hold" : "leave";
      });
    }
  } else if (at === "count") {
    addStep("counts", (own, next) => count(config, own, next, index));
    // The timeout expires, or the promotion is not confirmed in time.
    if (python.elected || python.confirms) {
      addStep("gives up", (own) => leave(own, !own.confirms), true);
    }
  } else if (at === "ask") {
    addStep("publishes", (own, next) => publish(own, next, index));
  } else if (at === "collect") {
    addStep(
      "gets too few replies",
      (_, next) => decide(config, next, index, null),
    );
    if (python.replies.length >= python.expected) {
      addStep("counts again", (own, next) => {
        const same = subscribers(next) === own.expected;
        forget(next, index);
        if (same) own.at = "decide";
        else decide(config, next, index, null);
      });
    }
  } else if (at === "alone") {
    addStep("sees that it is alone", (own) => beAlone(config, own, index));
  } else if (at === "decide") {
    addStep("decides", (own, next) => decide(config, next, index, own.replies));
  } else if (at === "hold") addStep("releases", (own) => leave(own, true));
  else if (at === "leave") addStep("unsubscribes", (own) => unsubscribe(own));
  if (config.crash && python.subscribed) {
    addStep("crashes", (own, next) => {
      forget(next, index);
      Object.assign(own, newPython(), { at: "end" });
    }, true);
  }
  for (const requester of python.questions) {
    if (config.repliesFirst && connectionsMustReply(state, requester)) continue;
    addStep(
      `replies to ${requester}`,
      (own, next) => replyTo(own, next, index, old, requester),
    );
  }
  return steps;
}

/** Delivers a reply to the requester, if it still listens. */
export function reply(state: State, requester: number, record: Reply): void {
  const python = state.pythons[requester];
  if (python) {
    const listens = python.at === "collect" &&
      python.replies.length < python.expected;
    if (!listens) return;
    python.replies.push(record);
    python.replies.sort((a, b) => a.id - b.id);
    return;
  }
  const member = requester - LEGACY;
  const connection = connectionAt(state, connectionOf(member));
  if (connection.process !== "runs") return;
  if (!taskAt(state, connectionOf(member), taskOf(member)).hears) {
    state.wrong = `the reply to ${member} is lost`;
  }
  connection.messages.push(["reply", member, record.id, record.mode]);
}

/** Removes the questions of a requester. */
export function forget(state: State, requester: number): void {
  for (const connection of state.connections) {
    connection.messages = connection.messages.filter(([name, id]) =>
      name !== "ping" || id !== requester
    );
  }
  for (const python of state.pythons) {
    python.questions = python.questions.filter((id) => id !== requester);
  }
}

function connectionsMustReply(
  { connections }: State,
  requester: number,
): boolean {
  return connections.some(({ subscribed, messages }) =>
    subscribed !== 0 &&
    messages.some(([name, id]) => name === "ping" && id === requester)
  );
}

/** Subscribes. A reader replies "shared" before it holds the lock. */
function subscribe(config: Configuration, own: Python, index: number): void {
  own.subscribed = true;
  own.at = "count";
  const kind = config.pythons![index];
  own.mode = kind === "4 reader" ? "s" : kind === "4 writer" ? "p" : "x";
}

/**
 * Stops the thread, which replies: after the next question or before it. The
 * subscription ends later. A former holder replies the same until then.
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
  Object.assign(own, newPython(), { at });
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

/** Other clients may have subscribed and received replies meanwhile. */
function beAlone(config: Configuration, own: Python, index: number): void {
  if (config.pythons![index] === "4 reader" || own.confirms) own.at = "hold";
  else {
    own.at = "count";
    own.mode = "x";
    own.confirms = true;
  }
}

/** Publishes a question. The first reply is its own. */
function publish(own: Python, state: State, index: number): void {
  own.at = "collect";
  own.replies = [{ id: index, mode: own.mode, elected: own.elected }];
  for (const connection of state.connections) {
    const hears = connection.process === "runs" && connection.subscribed & 2;
    if (hears) connection.messages.push(["ping", index, 0, "p"]);
  }
  state.pythons.forEach((other, at) => {
    if (other.subscribed && at !== index) other.questions.push(index);
  });
}

function replyTo(
  own: Python,
  state: State,
  index: number,
  old: boolean,
  requester: number,
): void {
  own.questions = own.questions.filter((other) => other !== requester);
  reply(
    state,
    requester,
    old
      ? { id: LEGACY + index, mode: "x", elected: null }
      : { id: index, mode: own.mode, elected: own.elected },
  );
}

function decide(
  config: Configuration,
  state: State,
  index: number,
  holders: Reply[] | null,
): void {
  const own = pythonAt(state, index);
  forget(state, index);
  own.replies = [];
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
