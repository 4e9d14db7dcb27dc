/**
 * Separates prose from code. The result has the length and the lines of the
 * source: prose stays, each other character becomes `CODE`, and what stands
 * between two lines of one comment becomes spaces.
 */

/** Stands for a character that is not prose, so that no phrase spans it. */
const CODE = "\0";

interface Language {
  /** Starts of comments that last until the end of the line. */
  lineComment: RegExp;
  blockComment?: RegExp;
  string?: RegExp;
  /** Whether templates and regular expressions of JavaScript occur. */
  javascript?: boolean;
}

const JAVASCRIPT: Language = {
  lineComment: /\/\/.*/y,
  blockComment: /\/\*[\s\S]*?\*\//y,
  string: /"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'/y,
  javascript: true,
};
const C: Language = {
  lineComment: /\/\/.*/y,
  blockComment: /\/\*[\s\S]*?\*\//y,
  string: /"(?:\\[\s\S]|[^"\\\n])*"/y,
};
const PYTHON: Language = {
  lineComment: /#.*/y,
  string:
    /"""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'/y,
};
const SHELL: Language = {
  lineComment: /(?<![\w$\\{"'])#.*/y,
  string: /"(?:\\[\s\S]|[^"\\])*"|'[^']*'/y,
};
const YAML: Language = {
  lineComment: /(?<=^|\s)#.*/my,
  string:
    /(?<=^[ \t-]*(?:name|description|title|label|about|placeholder):[ \t]+)\S.*/my,
};
const JSON_FILE: Language = {
  lineComment: /(?!)/y,
  string: /(?<="description":\s*)"(?:\\.|[^"\\\n])*"/y,
};

const LANGUAGES: Record<string, Language> = {
  ts: JAVASCRIPT,
  mts: JAVASCRIPT,
  js: JAVASCRIPT,
  mjs: JAVASCRIPT,
  typescript: JAVASCRIPT,
  javascript: JAVASCRIPT,
  c: C,
  h: C,
  py: PYTHON,
  python: PYTHON,
  sh: SHELL,
  bash: SHELL,
  yml: YAML,
  yaml: YAML,
  json: JSON_FILE,
};

/**
 * Returns the prose of a file, or `null` if files with this extension are not
 * checked.
 */
export function extractProse(extension: string, text: string): string | null {
  if (extension === ".md") return markdown(text);
  const language = LANGUAGES[extension.slice(1)] ??
    (extension === "" && /^#!.*\b(?:ba)?sh\b/.test(text) ? SHELL : undefined);
  return language === undefined ? null : program(language, text);
}

/** Replaces everything but line breaks. */
function blank(text: string, by: string): string {
  return text.replace(/[^\n]/g, by);
}

/** Blanks code in Markdown; keeps the comments and messages of fenced code. */
function markdown(text: string): string {
  const fence = /^([ \t>]*)(```+|~~~+)[ \t]*(\w*).*\n([\s\S]*?)^[ \t>]*\2.*$/gm;
  const withoutFences = text.replace(
    fence,
    (whole, _indent, _mark, name, body) => {
      const start = whole.indexOf("\n") + 1;
      const language = LANGUAGES[name];
      const prose = language === undefined
        ? blank(body, CODE)
        : program(language, body);
      const end = start + body.length;
      return blank(whole.slice(0, start), CODE) + prose +
        blank(whole.slice(end), CODE);
    },
  );
  return withoutFences
    .replace(
      /(`+)(?!`)[\s\S]*?[^`]\1(?!`)/g,
      (code) => /\n[ \t]*\n/.test(code) ? code : blank(code, CODE),
    )
    .replace(
      /(?<=\]\()[^)\s]*|\bhttps?:\/\/[^\s)>]*/g,
      (url) => blank(url, CODE),
    )
    .replace(/\*\*/g, "  ");
}

/** Keeps comments and string literals of a program. */
function program(language: Language, text: string): string {
  const out: string[] = [];
  let at = 0;
  /** Where the last string or line comment ended. */
  let ended: "comment" | "string" | null = null;
  let code = "";
  const match = (pattern: RegExp | undefined): string | null => {
    if (pattern === undefined) return null;
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0] ?? null;
  };
  const flushCode = (next: "comment" | "string" | null): boolean => {
    const joins = ended === next && (
      (next === "comment" && code.trim() === "") ||
      (next === "string" && /^\s*\+?\s*$/.test(code))
    );
    out.push(blank(code, joins ? " " : CODE));
    code = "";
    ended = next;
    return joins;
  };
  while (at < text.length) {
    const block = match(language.blockComment);
    const comment = block ?? match(language.lineComment);
    const literal = comment === null ? match(language.string) : null;
    if (comment !== null) {
      flushCode(block === null ? "comment" : null);
      out.push(commentProse(comment));
      at += comment.length;
    } else if (literal !== null) {
      const continues = flushCode("string");
      out.push(stringProse(literal, continues));
      at += literal.length;
    } else if (language.javascript && text[at] === "`") {
      flushCode(ended);
      const template = templateProse(language, text, at);
      out.push(template);
      at += template.length;
      ended = "string";
    } else if (language.javascript && text[at] === "/" && isRegExp(text, at)) {
      const length = regExpLength(text, at);
      code += text.slice(at, at + length);
      at += length;
    } else {
      const word = /[\w$]+|[\s\S]/y;
      word.lastIndex = at;
      const [token] = word.exec(text) ?? [text.charAt(at)];
      code += token;
      at += token.length;
    }
  }
  flushCode(null);
  return out.join("");
}

/** Blanks the marks of a comment; the rest of it is Markdown. */
function commentProse(comment: string): string {
  return markdown(
    comment
      .replace(/^(?:\/\*+|\/\/+|#+!?)|\*+\/$/g, (mark) => blank(mark, " "))
      .replace(/^[ \t]*\*(?!\*)/gm, (mark) => blank(mark, " ")),
  );
}

/**
 * A literal of one word is an identifier, a path or an option, unless it
 * continues another literal.
 */
function stringProse(literal: string, continues: boolean): string {
  if (!continues && !/\S\s+\S/.test(literal)) return blank(literal, CODE);
  const quotes = /^("""|'''|["'])([\s\S]*)\1$/.exec(literal);
  if (quotes === null) return codeSpansBlanked(literal);
  const quote = quotes[1] ?? "";
  const body = codeSpansBlanked(quotes[2] ?? "");
  return blank(quote, " ") + body + blank(quote, " ");
}

/** Backticks in messages quote code, and a backslash starts an escape. */
function codeSpansBlanked(text: string): string {
  return text
    .replace(/\\[\s\S]/g, (escape) => blank(escape, " "))
    .replace(/`[^`]*`/g, (code) => blank(code, CODE));
}

/** Returns the prose of the template literal at `start`, in its length. */
function templateProse(
  language: Language,
  text: string,
  start: number,
): string {
  let at = start + 1;
  const parts: { text: string; prose: boolean }[] = [];
  let plain = "";
  while (at < text.length && text[at] !== "`") {
    if (text[at] === "\\") {
      plain += text.slice(at, at + 2);
      at += 2;
    } else if (text.startsWith("${", at)) {
      parts.push({ text: plain, prose: true });
      plain = "";
      const end = expressionEnd(text, at + 2);
      const inner = program(language, text.slice(at + 2, end));
      parts.push({ text: `${CODE}${CODE}${inner}${CODE}`, prose: false });
      at = end + 1;
    } else {
      plain += text.charAt(at++);
    }
  }
  parts.push({ text: plain, prose: true });
  const isSentence = parts.some(({ text, prose }) =>
    prose && /\S\s+\S|^\s+\S|\S\s+$/.test(text)
  );
  const body = parts.map(({ text, prose }) => {
    if (!prose) return text;
    return isSentence ? codeSpansBlanked(text) : blank(text, CODE);
  }).join("");
  return ` ${body}${at < text.length ? " " : ""}`;
}

/** Returns where the expression of a template ends: at its closing brace. */
function expressionEnd(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const character = text[at];
    if (character === "{") depth++;
    if (character === "}" && depth-- === 0) return at;
    if (character === "`") at = templateEnd(text, at);
    if (character === '"' || character === "'") {
      const end = text.indexOf(character, at + 1);
      if (end > 0) at = end;
    }
  }
  return text.length;
}

function templateEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "`") return at;
    else if (text.startsWith("${", at)) at = expressionEnd(text, at + 2);
  }
  return text.length;
}

/** Whether a slash starts a regular expression, by what comes before it. */
function isRegExp(text: string, at: number): boolean {
  const before = text.slice(Math.max(0, at - 40), at).trimEnd();
  return before === "" || /[(,=:[!&|?{};+\->~]$|\b(?:return|typeof|case|in|of)$/
    .test(before);
}

function regExpLength(text: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < text.length && text[at] !== "\n"; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "[") inClass = true;
    else if (text[at] === "]") inClass = false;
    else if (text[at] === "/" && !inClass) return at - start + 1;
  }
  return 1;
}
