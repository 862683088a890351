// As jsx.mjs, for the script of the views that open on request: they use the core's Preact.
export { createElement, Fragment } from "./src/app/coreExports";
