// Two modules that are made from the folders in src/drawers/: the manifests and the views of all drawers. A new drawer is
// a new folder with a manifest.ts and an index.ts; nothing else names it.

import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("src/drawers/", import.meta.url));
const PREFIX = "virtual:drawer-";

function drawerNames() {
  return readdirSync(folder)
    .filter((name) => existsSync(`${folder}${name}/manifest.ts`))
    .sort();
}

function sourceOf(id) {
  const names = drawerNames();
  const lines = (path, clause) => names.map((name, i) => `import ${clause(i)} from "${folder}${name}/${path}";`);
  if (id === `${PREFIX}manifests`)
    return [...lines("manifest", (i) => `d${i}`), `export default [${names.map((_, i) => `d${i}`)}];`].join("\n");
  const entries = names.map((name, i) => `${JSON.stringify(name)}: d${i}`);
  return [...lines("index", (i) => `* as d${i}`), `export default { ${entries} };`].join("\n");
}

/** For the bundler. */
export const esbuildDrawers = {
  name: "drawers",
  setup(build) {
    build.onResolve({ filter: /^virtual:drawer-/ }, ({ path }) => ({ path, namespace: "drawers" }));
    build.onLoad({ filter: /./, namespace: "drawers" }, ({ path }) => ({
      contents: sourceOf(path),
      resolveDir: folder,
    }));
  },
};

/** For the tests. */
export const viteDrawers = {
  name: "drawers",
  resolveId: (id) => (id.startsWith(PREFIX) ? `\0${id}` : undefined),
  load: (id) => (id.startsWith(`\0${PREFIX}`) ? sourceOf(id.slice(1)) : undefined),
};
