export { Frames as View } from "./Frames";
