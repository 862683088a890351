export { Places as View } from "./Places";
