/** The terms of the model: configurations and states. */

import { at } from "../../support/values.ts";

/** Exclusive, shared, or the maximum of holders. */
export type Kind = "x" | "s" | number;

/** One acquisition. Without `waits`, it ends if the lock is not free. */
export interface Operation {
  kind: Kind;
  waits: boolean;
}

export type PythonKind = "4 writer" | "4 reader" | "2 writer";

/** Guards that can be removed. */
export type Mutation =
  | "subscribe after the script"
  | "unsubscribe before the script"
  | "Python clients are not counted"
  | "subscribe to C, then to portalock:{C}"
  | "subscribe to portalock:{C}, then to C"
  | "dead holders stay"
  | "dead waiters stay"
  | "dead waiters get the lock"
  | "giving up without the script"
  | "pending with an ID that sorts high"
  | "no replies"
  | "pending for everything"
  | "joining by the count alone"
  | "joining by the first reply"
  | "joining without a second count"
  | "joining out of turn"
  | "joining beside any holder"
  | "tokens from the clock alone"
  | "subscribing again"
  | "a failed attempt stays in the queue"
  | "no advance in the release"
  | "readers pass Python clients"
  | "shared without a member"
  | "a holder that waits again still holds"
  | "a holder that lost the lock leaves its member";

/** The clients of a lock, and the possible faults. */
export interface Configuration {
  /** The operations of each task of each connection. */
  connections: Operation[][][];
  pythons?: PythonKind[];
  /** Processes may crash at any moment. */
  crash?: boolean;
  /** The server may end connections at any moment. */
  kill?: boolean;
  /** Waiters may give up at any moment. */
  giveUp?: boolean;
  /** Waiters do not check, so that only steps of other clients grant the lock. */
  noChecks?: boolean;
  /** The server may lose its data once, and holders send heartbeats. */
  flush?: boolean;
  /** Members, even writers, enter if all Python clients are pending. */
  trustsPending?: boolean;
  /** Readers wait for Python clients without asking them. */
  neverAsks?: boolean;
  /** Connections reply to a question before Python clients do. */
  repliesFirst?: boolean;
  /** 2.x counts on another connection, so it may count before it subscribes. */
  overtaking?: boolean;
  /** Exclusive tokens must also be larger than those of earlier readers. */
  allTokens?: boolean;
  without?: Mutation;
}

/** A command in transit: name, member, number of Python clients. */
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

/** A message in transit: name, member or requester, number, mode. */
export type Message = [MessageName, number, number, Mode];
export type MessageName =
  | "granted"
  | "failed"
  | "ping"
  | "asked"
  | "reply"
  | "not joined"
  | "waits"
  | "gone";

/** Exclusive, shared, pending. */
export type Mode = "x" | "s" | "p";

/** The bits of subscriptions: the own channel, C, portalock:{C}. */
export const OWN = 1;
export const C = 2;
export const P = 4;

export interface Task {
  operation: number;
  /** Waits, holds, or has finished. */
  is: "w" | "h" | "f";
  /** How many Python clients got the question, or a state of it. */
  asked: number;
  /** The Python clients that replied that they share. */
  sharing: number[];
  /** Token, and whether it sent a heartbeat after {@linkcode Configuration.flush}. */
  token?: number;
  beaten?: boolean | undefined;
}

/** Values of {@linkcode Task.asked} without a count. */
export const NOT_ASKED = -1;
export const ASKING = -2;
export const JOINING = -3;

export interface Connection {
  /** Bits. 0 after the server has ended the connection. */
  subscribed: number;
  commands: Command[];
  messages: Message[];
  tasks: Task[];
  process: "runs" | "crashed" | "lost";
}

/** The record of a reply. Identifiers sort like those of the protocol. */
export interface Reply {
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
  /** Whether it assumes that it holds the lock, and asks for confirmation. */
  confirms: boolean;
  /** Whether it leaves for good. */
  leaves: boolean;
  expected: number;
  replies: Reply[];
  /** The requesters that wait for a reply. */
  questions: number[];
}

export interface State {
  queue: number[];
  /** Members and their tokens. */
  holders: [number, number][];
  /** The token of the last exclusive grant, and the largest of all. */
  lastExclusive: number;
  largest: number;
  connections: Connection[];
  pythons: Python[];
  flushed?: boolean;
  /** How the last step violated an invariant. */
  wrong?: string;
}

/** A member is a number: connection, task and operation. */
export const memberOf = (connection: number, task: number, operation: number) =>
  connection * 100 + task * 10 + operation;
export const connectionOf = (member: number) => Math.floor(member / 100);
export const taskOf = (member: number) => Math.floor(member / 10) % 10;

/** Returns the operation of a member. */
export function operationOf(
  { connections }: Configuration,
  member: number,
): Operation {
  const tasks = at(connections, connectionOf(member));
  return at(at(tasks, taskOf(member)), member % 10);
}

/** Returns a connection by its index. */
export function connectionAt({ connections }: State, index: number) {
  return at(connections, index);
}

/** Returns a Python client by its index. */
export function pythonAt({ pythons }: State, index: number) {
  return at(pythons, index);
}

/** Returns a task by its index, and that of its connection. */
export function taskAt(state: State, index: number, task: number) {
  return at(connectionAt(state, index).tasks, task);
}

/** Copies everything that steps change. */
export function copyState(state: State): State {
  return {
    ...state,
    queue: [...state.queue],
    holders: [...state.holders],
    connections: state.connections.map((connection) => ({
      ...connection,
      commands: [...connection.commands],
      messages: [...connection.messages],
      tasks: connection.tasks.map((task) => ({
        ...task,
        sharing: [...task.sharing],
      })),
    })),
    pythons: state.pythons.map((python) => ({
      ...python,
      replies: [...python.replies],
      questions: [...python.questions],
    })),
  };
}
