// As jsx.mjs, for the drawers' script, which uses the core's Preact.
export { createElement, Fragment } from "./src/app/coreExports";
