// What JSX becomes in the bundle: createElement(tag, props, ...children) takes fewer bytes than the automatic runtime's calls.
export { createElement, Fragment } from "preact";
