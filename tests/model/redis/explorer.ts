/** Every state that a system of steps can reach, and the shortest way there. */

/** What one step does: it changes the copy of the state that it is given. */
export interface Step<S> {
  name: string;
  /** It may happen, and nobody may have to wait for it. */
  isFault?: boolean;
  take(state: S): void;
}

export interface System<S> {
  initial(): S;
  copy(state: S): S;
  /** States are equal if their keys are. */
  key(state: S): string;
  steps(state: S): Step<S>[];
  /** What must not be in this state, if it is. */
  problem(state: S): string | undefined;
  /** Whether everybody has finished. */
  isFinal(state: S): boolean;
  /** What should be possible, by name. */
  witnesses: Record<string, (state: S) => boolean>;
}

/** A state that must not be, and the shortest way to it. */
export interface Violation<S> {
  problem: string;
  trace: string[];
  last: S;
}

export interface Exploration<S> {
  states: number;
  transitions: number;
  /** The witnesses that were seen. */
  seen: Set<string>;
  violation?: Violation<S>;
}

/** Whoever cannot get from here to a final state is stuck. */
const STUCK = "no way leads to an end from here without a fault";

/** Visits the states breadth first, until one is bad or none is left. */
export function explore<S>(system: System<S>, most: number): Exploration<S> {
  const ways = new Ways();
  const seen = new Set<string>();
  const waiting: (S | undefined)[] = [];
  const finals: number[] = [];
  const visit = (state: S, from: number, step: Omit<Step<S>, "take">) => {
    if (ways.reach(system.key(state), from, step)) waiting.push(state);
  };
  const result = (violation?: Violation<S>): Exploration<S> => ({
    states: ways.count,
    transitions: ways.transitions,
    seen,
    violation,
  });
  visit(system.initial(), -1, { name: "" });
  for (let id = 0; id < ways.count; id++) {
    if (id > most) throw new RangeError(`more than ${most} states`);
    const state = waiting[id] as S;
    waiting[id] = undefined;
    const problem = system.problem(state);
    if (problem) return result(violation(system, problem, ways.trace(id)));
    for (const [name, isSo] of Object.entries(system.witnesses)) {
      if (!seen.has(name) && isSo(state)) seen.add(name);
    }
    if (system.isFinal(state)) finals.push(id);
    for (const step of system.steps(state)) {
      const next = system.copy(state);
      step.take(next);
      visit(next, id, step);
    }
  }
  const stuck = ways.cannotReach(finals);
  if (stuck < 0) return result();
  return result(violation(system, STUCK, ways.trace(stuck)));
}

function violation<S>(
  system: System<S>,
  problem: string,
  trace: string[],
): Violation<S> {
  const last = system.initial();
  for (const name of trace) {
    system.steps(last).find((step) => step.name === name)!.take(last);
  }
  return { problem, trace, last };
}

/** The states by number, in the order in which they were found. */
class Ways {
  transitions = 0;
  readonly #ids = new Map<string, number>();
  readonly #parents: number[] = [];
  readonly #names: string[] = [];
  readonly #from: number[] = [];
  readonly #to: number[] = [];

  get count(): number {
    return this.#parents.length;
  }

  /** Notes a step; returns whether its state is a new one. */
  reach(
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

  /** The names of the steps to a state. */
  trace(id: number): string[] {
    const trace: string[] = [];
    for (let at = id; this.#parents[at] >= 0; at = this.#parents[at]) {
      trace.unshift(this.#names[at]);
    }
    return trace;
  }

  /** The first state from which none of these can be reached, or -1. */
  cannotReach(targets: number[]): number {
    const { count } = this;
    const starts = new Int32Array(count + 1);
    for (const to of this.#to) starts[to + 1]++;
    for (let id = 0; id < count; id++) starts[id + 1] += starts[id];
    const places = starts.slice();
    const sources = new Int32Array(this.#to.length);
    this.#to.forEach((to, edge) => {
      sources[places[to]++] = this.#from[edge];
    });
    const can = new Uint8Array(count);
    const stack = [...targets];
    for (const id of targets) can[id] = 1;
    for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
      for (let at = starts[id]; at < starts[id + 1]; at++) {
        if (can[sources[at]]) continue;
        can[sources[at]] = 1;
        stack.push(sources[at]);
      }
    }
    return can.indexOf(0);
  }
}
