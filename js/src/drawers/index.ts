// The script that the kernel sends: the views of all drawers, and those that are seen only after a gesture.

export { default as views } from "virtual:drawer-views";
export { late } from "../late";
