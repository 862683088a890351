// The script that the kernel sends: the views of all drawers.

export { default as views } from "virtual:drawer-views";
