// The sheets of the drawers are one file on the page: a rule of one drawer must not style another one.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const FOLDER = new URL("../src/styles/drawers/", import.meta.url);

const sheets = readdirSync(FOLDER)
  .filter((name) => existsSync(new URL(`../src/drawers/${name.replace(".css", "")}/`, import.meta.url)))
  .map((name) => [name, readFileSync(new URL(name, FOLDER), "utf8")] as const);

it.each(sheets)("%s styles no class of another drawer", (name, source) => {
  // At the beginning of a selector a class is not limited to the drawer by an element around it.
  const first = [...source.matchAll(/^ {2}\.(dv-[a-z-]+)/gm)].map(([, className]) => className as string);
  const unscoped = [...new Set(first)].filter((className) => className !== "dv-drawers");
  const others = sheets.filter(([other]) => other !== name);
  const shared = unscoped.filter((className) =>
    others.some(([, rules]) => new RegExp(`\\.${className}(?![a-z-])`).test(rules)),
  );
  expect(shared).toEqual([]);
});
