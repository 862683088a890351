// Builds the bundle that the Python package ships. `--dev` builds and serves the development page instead.
import { readFile, stat, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";
import { esbuildDrawers } from "./drawerModules.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
/** The limit of each file in bytes, also checked by tests/test_packaging.py. */
const LIMITS = JSON.parse(await readFile(here("limits.json"), "utf8"));

/** Leaves the core out of the drawers' script: the widget hands it over. */
const coreExports = {
  name: "core exports",
  setup: (build) => build.onResolve({ filter: /\/coreExports$/ }, () => ({ path: "coreExports", external: true })),
};

const shared = {
  bundle: true,
  plugins: [esbuildDrawers],
  format: "esm",
  target: "es2022",
  charset: "utf8",
  inject: [here("jsx.mjs")],
  tsconfigRaw: {
    compilerOptions: { jsx: "react", jsxFactory: "createElement", jsxFragmentFactory: "Fragment", strict: true },
  },
  define: {
    "Number.POSITIVE_INFINITY": "Infinity", // minified to 1 / 0
    "window.__PREACT_SIGNALS_DEVTOOLS__": "false",
  },
  legalComments: "none",
  logLevel: "warning",
};

if (process.argv.includes("--dev")) {
  const context = await esbuild.context({
    ...shared,
    entryPoints: {
      page: here("dev/page.ts"),
      widget: here("src/styles/widget.css"),
      more: here("src/styles/more.css"),
    },
    outdir: here("dev/out"),
    sourcemap: true,
  });
  const { port } = await context.serve({ servedir: here("dev"), host: "127.0.0.1" });
  console.log(`http://127.0.0.1:${port}/`);
} else {
  const out = here("../diffvis_widget/widget/static/");
  const core = await esbuild.build({
    ...shared,
    entryPoints: { widget: here("src/index.ts") },
    outdir: out,
    minify: true,
    metafile: true,
  });
  // A function from what src/app/coreExports.ts exports to the views, so that both share one Preact and its signals.
  const more = await esbuild.build({
    ...shared,
    entryPoints: { more: here("src/drawers/index.ts") },
    outdir: out,
    minify: true,
    metafile: true,
    inject: [here("jsx-more.mjs")],
    format: "cjs",
    plugins: [esbuildDrawers, coreExports],
    banner: { js: "export default (core)=>{const module={},require=()=>core;" },
    footer: { js: "return module.exports}" },
  });
  const twice = Object.keys(more.metafile.inputs).filter((name) => name in core.metafile.inputs);
  if (twice.length > 0) throw new Error(`more.js holds a second copy of ${twice}: take it from src/app/coreExports.ts`);
  // The view of a study is a widget of its own.
  await esbuild.build({ ...shared, entryPoints: { study: here("src/study/index.tsx") }, outdir: out, minify: true });
  await esbuild.build({
    ...shared,
    entryPoints: { standalone: here("src/standalone.ts") },
    outdir: out,
    minify: true,
    format: "iife",
  });
  // The worker of a page that paints. onnxruntime asks for its own address, which a worker made of a blob has none of;
  // its program comes with the page, compressed, so nothing is ever fetched from there.
  await esbuild.build({
    ...shared,
    entryPoints: { engine: here("src/engine/worker.ts") },
    outdir: out,
    minify: true,
    format: "iife",
    define: { ...shared.define, "import.meta.url": '"https://page.invalid/"' },
  });
  const program = await readFile(here("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"));
  await writeFile(`${out}engine.wasm.gz`, gzipSync(program, { level: 9 }));
  await esbuild.build({
    entryPoints: {
      widget: here("src/styles/widget.css"),
      more: here("src/styles/more.css"),
      study: here("src/styles/study.css"),
    },
    outdir: out,
    bundle: true,
    minify: true,
    // These support nesting and light-dark().
    target: ["chrome123", "firefox128", "safari17.5"],
    logLevel: "warning",
  });
  for (const [name, limit] of Object.entries(LIMITS)) {
    const { size } = await stat(out + name);
    console.log(`${name} ${(size / 1000).toFixed(1)} kB of ${limit / 1000} kB`);
    if (size > limit) throw new Error(`${name} is ${size} bytes: the limit is ${limit}`);
  }
  const source = await readFile(`${out}widget.js`, "utf8");
  if (!/export\s*\{[^}]*default/.test(source)) throw new Error("widget.js has no default export");
}
