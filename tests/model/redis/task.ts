/** The acquisitions of a session, from the first command to the last. */

import { answerPing } from "./answers.ts";
import { asker } from "./server.ts";
import { forget } from "./python.ts";
import {
  ASKING,
  type Command,
  type CommandName,
  type Configuration,
  entryOf,
  JOINING,
  type MessageName,
  type Mode,
  NOT_ASKED,
  operationOf,
  OWN,
  type Session,
  type State,
  type Task,
} from "./state.ts";

/** What is sent on a connection that has ended goes nowhere. */
function send(session: Session, ...commands: Command[]): void {
  if (session.subscribed !== 0) session.commands.push(...commands);
}

const waitsOrHolds = ({ is }: Task) => is !== "f";

export function start(
  config: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const session = state.sessions[index];
  const others = session.tasks.some(waitsOrHolds);
  const entry = entryOf(index, task, session.tasks[task].operation);
  session.tasks[task].is = "w";
  const subscriptions = others ? [] : subscribing(config);
  if (config.without === "subscribe after the script") {
    send(session, ["acquire", entry, 0], ...subscriptions);
  } else send(session, ...subscriptions, ["acquire", entry, 0]);
}

/** What nobody should do after a lost connection. */
export function subscribeAgain(
  config: Configuration,
  session: Session,
): void {
  session.subscribed = OWN;
  send(session, ...subscribing(config));
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

/** An acquisition ends, and the next one of its task begins. */
export function end(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  withScript: boolean,
): void {
  unask(state, index, task);
  const session = state.sessions[index];
  const own = session.tasks[task];
  const release: Command[] = withScript
    ? [["release", entryOf(index, task, own.operation), 0]]
    : [];
  own.is = "f";
  delete own.token;
  delete own.beaten;
  const last = !session.tasks.some(waitsOrHolds);
  const unsubscriptions: Command[] = last
    ? subscribing(config).map(([name]) => [`un${name}` as CommandName, 0, 0])
    : [];
  if (config.without === "unsubscribe before the script") {
    send(session, ...unsubscriptions, ...release);
  } else send(session, ...release, ...unsubscriptions);
  if (own.operation + 1 < config.sessions[index][task].length) {
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
  const session = state.sessions[index];
  const [name, who, count, mode] = session.messages.shift()!;
  if (name === "ping") return answerPing(config, state, index, who);
  const task = session.tasks.findIndex(({ is, operation }, task) =>
    is !== "f" && entryOf(index, task, operation) === who
  );
  if (task < 0) return;
  const own = session.tasks[task];
  if (own.is === "h") {
    learn(config, state, index, task, name);
  } else if (name === "granted") {
    own.is = "h";
    if (config.flush) own.token = count;
    unask(state, index, task);
  } else if (name === "refused") {
    end(config, state, index, task, false);
  } else if (name === "asked") {
    own.asked = count;
    joinIfAllShare(config, state, index, task);
  } else if (name === "answer" && agrees(config, who, mode)) {
    own.sharing = [...own.sharing, count].sort();
    joinIfAllShare(config, state, index, task);
  } else if (name === "answer" || name === "not joined") {
    unask(state, index, task);
  }
}

/** Whether an entry could hold beside who answers so. */
function agrees(config: Configuration, entry: number, mode: Mode): boolean {
  const { kind } = operationOf(config, entry);
  return (mode === "s" && kind === "s") ||
    (mode === "p" && config.trustsPending === true);
}

/** A holder is told that it is none. */
function learn(
  config: Configuration,
  state: State,
  index: number,
  task: number,
  name: MessageName,
): void {
  const content = config.without === "whoever waits again still holds";
  if (name !== "gone" && (name !== "waits" || content)) return;
  const withScript = config.without !== "whoever lost it leaves its entry";
  end(config, state, index, task, withScript);
}

function joinIfAllShare(
  { without }: Configuration,
  state: State,
  index: number,
  task: number,
): void {
  const session = state.sessions[index];
  const { asked, sharing, operation } = session.tasks[task];
  const enough = without === "joining by the count alone"
    ? 0
    : without === "joining by the first answer"
    ? 1
    : asked;
  if (asked === 0) unask(state, index, task);
  if (asked <= 0 || sharing.length < enough) return;
  session.tasks[task].asked = JOINING;
  session.tasks[task].sharing = [];
  send(session, ["join", entryOf(index, task, operation), asked]);
}

export function ask(state: State, index: number, task: number): void {
  const session = state.sessions[index];
  session.tasks[task].asked = ASKING;
  const entry = entryOf(index, task, session.tasks[task].operation);
  send(session, ["ask", entry, 0]);
}

/** What is still under way to or from a question that is over is void. */
export function unask(state: State, index: number, task: number): void {
  const session = state.sessions[index];
  const own = session.tasks[task];
  const entry = entryOf(index, task, own.operation);
  if (own.asked === NOT_ASKED) return;
  own.asked = NOT_ASKED;
  own.sharing = [];
  session.commands = session.commands.filter(([name, who]) =>
    name !== "ask" || who !== entry
  );
  session.messages = session.messages.filter(([name, who]) =>
    !["asked", "answer", "not joined"].includes(name) || who !== entry
  );
  forget(state, asker(entry));
}
