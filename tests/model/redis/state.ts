/** The words of the model: who takes part, and what a state is. */

/** Exclusive, shared, or at most so many holders. */
export type Kind = "x" | "s" | number;

/** One acquisition; one that does not wait ends if it is not let in. */
export interface Operation {
  kind: Kind;
  waits: boolean;
}

export type PythonKind = "4 writer" | "4 reader" | "2 writer";

/** Guards that can be removed. */
export type Mutation =
  | "subscribe after the script"
  | "unsubscribe before the script"
  | "foreigners are not counted"
  | "subscribe to C, then to portalock:{C}"
  | "subscribe to portalock:{C}, then to C"
  | "dead holders stay"
  | "dead waiters stay"
  | "dead waiters get the lock"
  | "giving up without the script"
  | "pending with an id that sorts high"
  | "no answers"
  | "pending for everything"
  | "joining by the count alone"
  | "joining by the first answer"
  | "joining without a second count"
  | "joining out of turn"
  | "joining whoever holds"
  | "tokens from the clock alone"
  | "subscribing again"
  | "a refused attempt stays in the queue"
  | "no advance in the release"
  | "readers pass foreigners"
  | "shared without an entry"
  | "whoever waits again still holds"
  | "whoever lost it leaves its entry";

/** Who takes part, and what may happen to them. */
export interface Configuration {
  /** The operations of each task of each session. */
  sessions: Operation[][][];
  pythons?: PythonKind[];
  /** Processes may end at any moment. */
  crash?: boolean;
  /** The server may end connections at any moment. */
  kill?: boolean;
  /** Waits may be given up at any moment. */
  giveUp?: boolean;
  /** Without them only what others do lets anybody in. */
  noChecks?: boolean;
  /** The server may lose its data once; holders have heartbeats. */
  flush?: boolean;
  /** Sessions, writers too, enter beside foreigners that are all pending. */
  trustsPending?: boolean;
  /** Readers of ours wait for foreigners, whatever these would answer. */
  neverAsks?: boolean;
  /** Sessions answer a question before participants of Python's do. */
  answerFirst?: boolean;
  /** 2.x counts on another connection, and may so before it has subscribed. */
  overtaking?: boolean;
  /** Exclusive tokens are larger than those of earlier readers, too. */
  allTokens?: boolean;
  without?: Mutation;
}

/** A command under way: the name, the entry, the number of foreigners. */
export type Command = [CommandName, number, number];
export type CommandName =
  | "subscribe"
  | "subscribe C"
  | "subscribe P"
  | "unsubscribe"
  | "unsubscribe C"
  | "unsubscribe P"
  | "acquire"
  | "release"
  | "ask"
  | "join";

/** A message under way: the entry or who asks, a number, a mode. */
export type Message = [MessageName, number, number, Mode];
export type MessageName =
  | "granted"
  | "refused"
  | "ping"
  | "asked"
  | "answer"
  | "not joined"
  | "waits"
  | "gone";

/** Exclusive, shared, pending. */
export type Mode = "x" | "s" | "p";

/** What a session is subscribed to: its own channel, C, portalock:{C}. */
export const OWN = 1;
export const C = 2;
export const P = 4;

export interface Task {
  operation: number;
  /** Waits, holds, has finished. */
  is: "w" | "h" | "f";
  /** How many received the question, or how far it is; who shares. */
  asked: number;
  sharing: number[];
  /** With {@linkcode Configuration.flush}: its token, and whether it asked. */
  token?: number;
  beaten?: boolean;
}

/** {@linkcode Task.asked} before the reply, and before the last one. */
export const NOT_ASKED = -1;
export const ASKING = -2;
export const JOINING = -3;

export interface Session {
  /** Bits. 0 once the server has ended the connection. */
  subscribed: number;
  commands: Command[];
  messages: Message[];
  tasks: Task[];
  process: "runs" | "crashed" | "lost";
}

/** The record of an answer. Identifiers sort as those of the protocol do. */
export interface Answer {
  id: number;
  mode: Mode;
  elected: boolean | null;
}

export interface Python {
  subscribed: boolean;
  at:
    | "off"
    | "count"
    | "alone"
    | "ask"
    | "collect"
    | "decide"
    | "hold"
    | "leave"
    | "end";
  mode: Mode;
  elected: boolean;
  /** It thinks that it has the lock and asks once more. */
  confirms: boolean;
  /** It has had enough. */
  leaves: boolean;
  expected: number;
  answers: Answer[];
  /** Who asked it, and has no answer yet. */
  questions: number[];
}

export interface State {
  queue: number[];
  /** Entries and their tokens. */
  holders: [number, number][];
  /** The token of the last exclusive grant, and the largest of all. */
  lastExclusive: number;
  largest: number;
  sessions: Session[];
  pythons: Python[];
  flushed?: boolean;
  /** What went wrong in the last step. */
  wrong?: string;
}

/** An entry is a number: session, task and operation. */
export const entryOf = (session: number, task: number, operation: number) =>
  session * 100 + task * 10 + operation;
export const sessionOf = (entry: number) => Math.floor(entry / 100);
export const taskOf = (entry: number) => Math.floor(entry / 10) % 10;

/** The operation that an entry is. */
export function operationOf(
  { sessions }: Configuration,
  entry: number,
): Operation {
  return sessions[sessionOf(entry)][taskOf(entry)][entry % 10];
}

/** A copy that shares nothing that steps change. */
export function copyOf(state: State): State {
  return {
    ...state,
    queue: [...state.queue],
    holders: [...state.holders],
    sessions: state.sessions.map((session) => ({
      ...session,
      commands: [...session.commands],
      messages: [...session.messages],
      tasks: session.tasks.map((task) => ({
        ...task,
        sharing: [...task.sharing],
      })),
    })),
    pythons: state.pythons.map((python) => ({
      ...python,
      answers: [...python.answers],
      questions: [...python.questions],
    })),
  };
}
