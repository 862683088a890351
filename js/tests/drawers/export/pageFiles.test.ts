// The table of scores that the page saves: a spreadsheet must not evaluate a concept.

import { expect, it } from "vitest";
import { Session } from "../../../src/core/session";
import { csvOf } from "../../../src/drawers/export/pageFiles";
import { runContent, scoresContent, stepBuffers, stepContent, TestHost } from "../../host";

function tableOf(concept: string): string {
  const host = new TestHost();
  const session = new Session(host);
  host.deliver(runContent());
  host.deliver(stepContent(0), stepBuffers());
  host.deliver(scoresContent(0, [[-0.25, 0.5]], { concepts: [concept, "boat"] }));
  const run = session.store.shown.value;
  return run ? csvOf(run) : "";
}

it.each(["=1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "a;=1", "a\t=1", "a\n=1", 'a"=1', "＝1", "'=1"])(
  "holds no formula for the concept %j",
  (concept) => {
    const cells = tableOf(concept).split(/[,;\t\r\n"]/);
    expect(cells.filter((cell) => /^\s*[=+\-@＝]/.test(cell) && Number.isNaN(Number(cell)))).toEqual([]);
  },
);

it.each(["red - blue", "a+b", "me@example.org"])("leaves the concept %j as it is", (concept) => {
  const [head, row] = tableOf(concept).split("\r\n");
  expect(head).toContain(`,${concept} cosine,`);
  expect(row).toContain(",-0.25,");
});
