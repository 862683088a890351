export { attachDrop as attach } from "./drop";
export { ExistingImage as View } from "./ExistingImage";
