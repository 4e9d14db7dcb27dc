/**
 * Characters that a terminal may obey instead of showing them: those that begin
 * a line or an escape sequence, are invisible, or change the direction.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Escapes the characters of a text that a terminal may obey. */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) =>
      character.split("").map((unit) =>
        `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`
      ).join(""),
  );
}
