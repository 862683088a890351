export { Compare as View } from "./Compare";
