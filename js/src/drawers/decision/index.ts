export { Decision as View } from "./Decision";
