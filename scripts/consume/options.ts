/** The command line of `npm run consume`. */

export const USAGE = `\
Consumes the packed package with other tools, in empty folders.

node scripts/consume.mjs [OPTION]... [PATTERN]...

Runs the rows of docs/tools.md whose names match each PATTERN, a regular
expression.

--all           also runs the rows that take minutes (npm run consume:all)
--keep          does not remove the folders, and prints where they are
--write-table   writes the table in docs/tools.md, and runs nothing
--help
`;

/** What {@linkcode parseOptions} returns. */
export interface ConsumeOptions {
  all: boolean;
  keeps: boolean;
  writesTable: boolean;
  help: boolean;
  patterns: RegExp[];
}

/** @throws {Error} If an argument is not an option. */
export function parseOptions(args: string[]): ConsumeOptions {
  const options: ConsumeOptions = {
    all: false,
    keeps: false,
    writesTable: false,
    help: false,
    patterns: [],
  };
  for (const argument of args) {
    if (argument === "--all") options.all = true;
    else if (argument === "--keep") options.keeps = true;
    else if (argument === "--write-table") options.writesTable = true;
    else if (argument === "--help") options.help = true;
    else if (argument.startsWith("-")) {
      throw new RangeError(`unknown option "${argument}" (see --help)`);
    } else options.patterns.push(new RegExp(argument, "i"));
  }
  return options;
}
