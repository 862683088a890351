// The folders of src/drawers/: each has a manifest and a view, and is found without being named anywhere.

import { readdirSync } from "node:fs";
import { expect, it } from "vitest";
import "../setup";
import { SOURCE } from "../drawerSource";

const folders = readdirSync(new URL("../../src/drawers/", import.meta.url), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort();

it("are all found, each under the name of its folder", () => {
  expect(SOURCE.manifests.map(({ name }) => name).sort()).toEqual(folders);
  expect(Object.keys(SOURCE.script.views).sort()).toEqual(folders);
  for (const { View } of Object.values(SOURCE.script.views)) expect(View).toBeTypeOf("function");
});

it("have labels and places of their own", () => {
  for (const field of ["label", "order"] as const)
    expect(new Set(SOURCE.manifests.map((manifest) => manifest[field])).size).toBe(folders.length);
});
