export { Methods as View } from "./Methods";
export { layMaps as attach } from "./saliency";
