/** How a writer of portalocker 4 evaluates replies, following its source. */

import type { Python, Reply } from "./state.ts";

/** The next step of a writer. */
export type Verdict = "hold" | "again" | "leave";

/** `_resolve_lock_holders` and `_resolve_exclusive_writer`. */
export function resolve(
  own: Python,
  id: number,
  holders: Reply[] | null,
): Verdict {
  if (holders === null) return own.elected ? "again" : "leave";
  const shared = holders.some(({ mode }) => mode === "s");
  if (own.elected) {
    if (mustForfeit(id, holders)) return "leave";
    const undecided = holders.some((holder) =>
      holder.id < id && holder.mode === "p" && holder.elected === false
    );
    return shared || undecided ? "again" : "hold";
  }
  if (!isElected(id, holders)) return "leave";
  own.elected = true;
  return shared ? "again" : "hold";
}

/** `_writer_is_elected` */
function isElected(id: number, holders: Reply[]): boolean {
  if (holders.some(({ mode }) => mode === "x")) return false;
  if (holders.some((holder) => holder.elected && holder.id !== id)) {
    return false;
  }
  const pending = holders.filter(({ mode }) => mode === "p");
  return pending.length > 0 && Math.min(...pending.map(({ id }) => id)) === id;
}

/** `_must_forfeit` */
function mustForfeit(id: number, holders: Reply[]): boolean {
  return holders.some((holder) => {
    if (holder.id === id) return false;
    if (holder.mode === "x") return true;
    if (holder.id > id) return false;
    return holder.elected ||
      (holder.mode === "p" && holder.elected === null);
  });
}

/** `_confirm_probe_verdict` */
export function verdict(id: number, holders: Reply[] | null): Verdict {
  if (holders === null) return "again";
  let found: Verdict = "hold";
  for (const { id: other, mode, elected } of holders) {
    if (other === id) continue;
    if (mode === "s") return "leave";
    const lower = other < id;
    if (mode === "x") {
      if (elected === null || lower) return "leave";
    } else if (lower && elected === null) return "leave";
    else if (lower) found = "again";
  }
  return found;
}
