/** What sessions tell participants of Python's. */

import { answer } from "./python.ts";
import {
  type Configuration,
  entryOf,
  type Mode,
  operationOf,
  type State,
} from "./state.ts";

/** Hands the record of a session to who asked. */
export function answerPing(
  config: Configuration,
  state: State,
  index: number,
  who: number,
): void {
  const { without } = config;
  if (without === "no answers") return;
  const high = without === "pending with an id that sorts high";
  const id = high ? 100 + index : index - 100;
  const mode = without === "pending for everything"
    ? "p"
    : modeOf(config, state, index);
  answer(state, who, { id, mode, elected: null });
}

function modeOf(config: Configuration, state: State, index: number): Mode {
  const modes = state.sessions[index].tasks.map(({ is, operation }, task) => {
    const { kind } = operationOf(config, entryOf(index, task, operation));
    return is === "f"
      ? undefined
      : is === "h" && kind !== "x"
      ? "s"
      : is === "h"
      ? "x"
      : "p";
  }).filter((mode) => mode !== undefined);
  if (modes.includes("x")) return "x";
  if (modes.length === 0 && config.without === "shared without an entry") {
    return "s";
  }
  return modes.length > 0 && modes.every((mode) => mode === "s") ? "s" : "p";
}
