/** The terms of the model: configurations and states. */

import { at } from "../../support/values.ts";

/** Exclusive, shared, or the maximum of holders. */
export type Kind = "x" | "s" | number;

/** One acquisition. Without `waits`, it ends if the lock is not free. */
export interface Operation {
  kind: Kind;
  waits: boolean;
  /** Transfers the lease instead of releasing it. */
  gives?: boolean;
  /** Adopts the lease that another session has transferred. */
  adopts?: boolean;
}

export type PythonKind = "4 writer" | "4 reader" | "2 writer";

/** Guards that can be removed. */
export type Mutation =
  | "subscribe after the script"
  | "the script before SUBSCRIBE is confirmed"
  | "Python clients are not counted"
  | "subscribe to C, then to {C}"
  | "subscribe to {C}, then to C"
  | "dead holders stay"
  | "dead waiters stay"
  | "dead waiters get the lock"
  | "the script does not count the own subscription"
  | "the end of the subscriber is not an end"
  | "only the head looks"
  | "no look messages"
  | "an old position replaces a look message"
  | "only the head probes"
  | "only predecessors are probed"
  | "giving up without the script"
  | "a refused release is not repeated"
  | "a refused release ends the connection"
  | "an old reply ends the lease"
  | "the linger ends during an acquisition"
  | "the linger does not end"
  | "a request is not an acquisition"
  | "shared beside a request"
  | "shared for everything"
  | "shared without an acquisition"
  | "silent without an acquisition"
  | "pending with an ID that sorts high"
  | "no replies"
  | "pending for everything"
  | "asking before listening"
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
  | "unsubscribe at the transfer"
  | "unsubscribe before an offer is removed"
  | "adopting from a dead session"
  | "adopting without removing the record"
  | "adopting a record that is gone"
  | "a holder that waits again still holds"
  | "a holder that lost the lock leaves its member";

/** The clients of a lock, and the possible faults. */
export interface Configuration {
  /** The operations of each task of each session. */
  connections: Operation[][][];
  pythons?: PythonKind[];
  /**
   * Each session has one connection for its subscriptions and one for its
   * scripts. Nothing on one is ordered with anything on the other.
   */
  twoConnections?: boolean;
  /** Processes, or only those that hold the lock, may crash at any moment. */
  crash?: boolean | "holders";
  /** A crashed process keeps its connection until a waiter kills it. */
  silent?: boolean;
  /** The server may end connections at any moment. */
  kill?: boolean;
  /** Waiters may give up at any moment. */
  giveUp?: boolean;
  /** The server may refuse scripts. */
  refuses?: boolean;
  /** Waiters do not look, so that only steps of other clients grant the lock. */
  noLooks?: boolean;
  /** How many waiters look. The others do so only after a message. */
  lookers?: number;
  /** The server may lose its data once, and holders send heartbeats. */
  flush?: boolean;
  /**
   * The clock is set back once, or a replica takes over whose clock is behind,
   * with or without the last tokens.
   */
  clock?: "set back" | "failover" | "failover without tokens";
  /** The last session begins after the failover. */
  lastIsLate?: boolean;
  /** Members, even writers, enter if all Python clients are pending. */
  trustsPending?: boolean;
  /** Readers wait for Python clients without asking them. */
  neverAsks?: boolean;
  /** Connections reply to a question before Python clients do. */
  repliesFirst?: boolean;
  /** 2.x counts on another connection, so it may count before it subscribes. */
  overtaking?: boolean;
  without?: Mutation;
}

/** A command in transit: name, member, number of Python clients or token. */
export type Command = [CommandName, number, number];
export type CommandName =
  | "subscribe"
  | "subscribe C"
  | "subscribe P"
  | "subscribe R"
  | "unsubscribe"
  | "unsubscribe C"
  | "unsubscribe P"
  | "acquire"
  | "release"
  | "adopt"
  | "verify"
  | "ask"
  | "join";

/** A message or a reply in transit: name, member or requester, number, mode. */
export type Message = [MessageName, number, number, Mode];
export type MessageName =
  | "granted"
  | "failed"
  | "ping"
  | "asked"
  | "reply"
  | "not joined"
  | "waits"
  | "look"
  | "gone"
  | "refused"
  | "adopted"
  | "released"
  | "subscribed"
  | "listens";

/** Exclusive, shared, pending. */
export type Mode = "x" | "s" | "p";

/** The bits of subscriptions: the own channel, C, {C}. */
export const OWN = 1;
export const C = 2;
export const P = 4;

export interface Task {
  operation: number;
  /**
   * Waits, holds, has finished, will begin the next operation, offers its
   * lease, removes the offer, or begins once a lease is offered.
   */
  is: "w" | "h" | "f" | "n" | "o" | "r" | "i";
  /** Whether the script is held back until SUBSCRIBE is confirmed. */
  unsent?: boolean | undefined;
  /** Whether it knows that it is one of {@linkcode Configuration.lookers}. */
  near?: boolean | undefined;
  /** How many Python clients got the question, or a state of it. */
  asked: number;
  /** Whether the server has the subscription for the replies. */
  hears?: boolean | undefined;
  /** The Python clients that replied that they share. */
  sharing: number[];
  /** Token, and whether it sent a heartbeat after {@linkcode Configuration.flush}. */
  token?: number;
  beaten?: boolean | undefined;
}

/** Whether a task has requested the lock, or may have a record of it. */
export const isActive = ({ is }: Task) =>
  is === "w" || is === "h" || is === "o" || is === "r";

/** Values of {@linkcode Task.asked} without a count. */
export const NOT_ASKED = -1;
export const ASKING = -2;
export const JOINING = -3;
export const LISTENING = -4;

/** A session: one process, with one or two connections. */
export interface Connection {
  /** Bits. 0 after the server has ended the connection. */
  subscribed: number;
  /** Whether the process is subscribed to the channels of the lock. */
  listens: "no" | "asked" | "yes";
  commands: Command[];
  messages: Message[];
  /** With two connections, what travels on the other one. */
  subscriptions: Command[];
  replies: Message[];
  commandsEnded?: boolean;
  tasks: Task[];
  process: "runs" | "crashed" | "lost" | "off";
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
  /** The token in the key `clock`, and the last one that was granted. */
  clock: number;
  last: number;
  connections: Connection[];
  pythons: Python[];
  flushed?: boolean;
  /** The member whose lease was transferred. */
  offer?: number;
  /** Whether the server's clock is behind every token. */
  behind?: boolean;
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
      subscriptions: [...connection.subscriptions],
      replies: [...connection.replies],
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
