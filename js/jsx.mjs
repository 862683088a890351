// What JSX compiles to: createElement(tag, props, ...children) is shorter than the calls of the automatic runtime.
export { createElement, Fragment } from "preact";
