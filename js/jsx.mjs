// What JSX becomes in the bundle: h(tag, props, ...children) takes fewer bytes than the automatic runtime's calls.
export { Fragment, h } from "preact";
