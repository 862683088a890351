export { Notes as View } from "./Notes";
