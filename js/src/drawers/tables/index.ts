export { Tables as View } from "./Tables";
