export { LayerGrid as View } from "./LayerGrid";
