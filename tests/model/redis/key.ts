/** A state in few characters: writing it takes most of the time. */

import type { Python, Session, State } from "./state.ts";

/** Equal for equal states, different for different ones. */
export function keyOf(state: State): string {
  let key = `${state.queue}|`;
  for (const [entry, token] of state.holders) key += `${entry}:${token} `;
  key += `|${state.lastExclusive},${state.largest}`;
  if (state.flushed) key += "flushed";
  if (state.wrong) key += state.wrong;
  for (const session of state.sessions) key += sessionKey(session);
  for (const python of state.pythons) key += pythonKey(python);
  return key;
}

function sessionKey(
  { subscribed, commands, messages, tasks, process }: Session,
): string {
  let key = `|S${subscribed}${process[0]}`;
  for (const [name, entry, count] of commands) {
    key += ` ${name} ${entry} ${count}`;
  }
  for (const [name, who, count, mode] of messages) {
    key += `,${name} ${who} ${count}${mode}`;
  }
  for (const { operation, is, asked, sharing, token, beaten } of tasks) {
    key += `;${operation}${is}${asked}:${sharing}`;
    if (token !== undefined) key += `${beaten ? "b" : "t"}${token}`;
  }
  return key;
}

function pythonKey(own: Python): string {
  const { subscribed, elected, confirms, leaves } = own;
  const flags = +subscribed + 2 * +elected + 4 * +confirms + 8 * +leaves;
  let key = `|P${flags}${own.mode}${own.at}${own.expected}`;
  for (const { id, mode, elected } of own.answers) {
    key += `,${id}${mode}${elected}`;
  }
  return `${key};${own.questions}`;
}
