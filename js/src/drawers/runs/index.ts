export { RunList as View } from "./RunList";
