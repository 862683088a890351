export { Methods as View } from "./Methods";
export { followOverlay as attach } from "./saliency";
