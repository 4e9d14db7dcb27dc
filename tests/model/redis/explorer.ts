/** Explores every state that a system can reach, by the shortest trace. */

import { at } from "../../support/values.ts";

/** One step of a system. */
export interface Step<S> {
  name: string;
  /** Whether the step may happen, but no progress may depend on it. */
  isFault?: boolean;
  /** Changes a state, which is a copy. */
  apply(state: S): void;
}

export interface System<S> {
  initial(): S;
  copy(state: S): S;
  /** Returns a key. States are equal if their keys are equal. */
  key(state: S): string;
  steps(state: S): Step<S>[];
  /** Returns how this state violates an invariant, or `undefined`. */
  findProblem(state: S): string | undefined;
  /** Returns whether every task has ended. */
  isFinal(state: S): boolean;
  /** Conditions that some state should satisfy, by name. */
  witnesses: Record<string, (state: S) => boolean>;
}

/** A state that violates an invariant, and the shortest trace to it. */
export interface Violation<S> {
  problem: string;
  trace: string[];
  last: S;
}

export interface Exploration<S> {
  states: number;
  transitions: number;
  /** The names of the witnesses that some state satisfies. */
  seen: Set<string>;
  violation: Violation<S> | undefined;
}

/** The problem of a state that cannot reach a final state. */
const STUCK = "no final state is reachable without a fault";

/** Visits all states breadth first, up to the first violation. */
export function explore<S>(
  system: System<S>,
  maxStates: number,
): Exploration<S> {
  const graph = new StateGraph();
  const seen = new Set<string>();
  const pending: (S | undefined)[] = [];
  const finals: number[] = [];
  const visit = (state: S, from: number, step: Omit<Step<S>, "apply">) => {
    if (graph.add(system.key(state), from, step)) pending.push(state);
  };
  const result = (violation?: Violation<S>): Exploration<S> => ({
    states: graph.count,
    transitions: graph.transitions,
    seen,
    violation,
  });
  visit(system.initial(), -1, { name: "" });
  for (let id = 0; id < graph.count; id++) {
    if (id > maxStates) throw new RangeError(`more than ${maxStates} states`);
    const state = pending[id] as S;
    pending[id] = undefined;
    const problem = system.findProblem(state);
    if (problem) return result(violation(system, problem, graph.trace(id)));
    for (const [name, holds] of Object.entries(system.witnesses)) {
      if (!seen.has(name) && holds(state)) seen.add(name);
    }
    if (system.isFinal(state)) finals.push(id);
    for (const step of system.steps(state)) {
      const next = system.copy(state);
      step.apply(next);
      visit(next, id, step);
    }
  }
  const stuck = graph.findStuck(finals);
  if (stuck < 0) return result();
  return result(violation(system, STUCK, graph.trace(stuck)));
}

function violation<S>(
  system: System<S>,
  problem: string,
  trace: string[],
): Violation<S> {
  const last = system.initial();
  for (const name of trace) {
    system.steps(last).find((step) => step.name === name)!.apply(last);
  }
  return { problem, trace, last };
}

/** The states by number, in the order of their discovery, and the steps. */
class StateGraph {
  transitions = 0;
  readonly #ids = new Map<string, number>();
  readonly #parents: number[] = [];
  readonly #names: string[] = [];
  readonly #from: number[] = [];
  readonly #to: number[] = [];

  get count(): number {
    return this.#parents.length;
  }

  /** Adds a step, and returns whether it leads to a new state. */
  add(
    key: string,
    from: number,
    { name, isFault }: { name: string; isFault?: boolean },
  ): boolean {
    const known = this.#ids.get(key);
    const id = known ?? this.count;
    this.transitions++;
    if (from >= 0 && id !== from && !isFault) {
      this.#from.push(from);
      this.#to.push(id);
    }
    if (known !== undefined) return false;
    this.#ids.set(key, id);
    this.#parents.push(from);
    this.#names.push(name);
    return true;
  }

  /** Returns the names of the steps to a state. */
  trace(id: number): string[] {
    const trace: string[] = [];
    for (let i = id; i > 0; i = at(this.#parents, i)) {
      trace.unshift(at(this.#names, i));
    }
    return trace;
  }

  /** Returns the first state that cannot reach any of these states, or -1. */
  findStuck(targets: number[]): number {
    const { count } = this;
    // For each state, a linked list of the edges that lead to it.
    const first = new Int32Array(count).fill(-1);
    const next = new Int32Array(this.#to.length);
    this.#to.forEach((to, edge) => {
      next[edge] = first[to] ?? -1;
      first[to] = edge;
    });
    const reaching = new Uint8Array(count);
    const stack = [...targets];
    for (const id of targets) reaching[id] = 1;
    for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
      for (let edge = first[id] ?? -1; edge >= 0; edge = next[edge] ?? -1) {
        const from = at(this.#from, edge);
        if (reaching[from]) continue;
        reaching[from] = 1;
        stack.push(from);
      }
    }
    return reaching.indexOf(0);
  }
}
