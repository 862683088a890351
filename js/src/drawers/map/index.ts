export { MapNotes as View } from "./MapNotes";
