export { Export as View } from "./Export";
